"""The environment of an image: what `opam env` gives there, and on top of it the image's own fields."""

from __future__ import annotations

from typing import Tuple

from pants.engine.target import InvalidFieldException

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.references import BadReference, expand, parse
from opam_oci.pants_engine.digests import read_files
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.layer import Layer, LayerError

# It names a file of opam's in the image. Where there is no opam, nobody reads it.
_OPAMS_OWN = "OPAM_LAST_ENV"

Variables = Tuple[Tuple[str, str], ...]


async def environment_of(state: Layer) -> Variables:
    """The variables, in order, that opam gives in an image with this state layer. Raises LayerError."""
    where = "the state layer's layer.json"
    text = (await read_files(state.digest, "layer.json"))["layer.json"]
    opam = parse_object(text, where, LayerError).get("opam")
    env = opam.get("env") if isinstance(opam, dict) else None
    if not isinstance(env, list) or not all(isinstance(item, str) and item.find("=") > 0 for item in env):
        raise LayerError(f"{where}: its `env` is {env!r:.80}, which is no environment.")
    return tuple((name, value) for name, _, value in (item.partition("=") for item in env))


def without_opam(variables: Variables) -> Variables:
    """Those of an image that has the programs of a switch, but not opam."""
    return tuple((name, value) for name, value in variables if name != _OPAMS_OWN)


def image_env(field_set: OciPackageImageFieldSet, variables: Variables) -> list[str]:
    """`Env` of the image's configuration: `variables`, and the field's on top, in the field's order. A value may refer to those
    before it, and so to what it replaces. Raises InvalidFieldException for other references."""
    env = dict(variables)
    for name, value in (field_set.env.value or {}).items():
        try:
            env[name] = expand(parse(value), env)
        except BadReference as error:
            raise InvalidFieldException(
                f"The `{field_set.env.alias}` field in target {field_set.address}: the value {value!r:.200} of {name} "
                f"{error}, neither by the image ({', '.join(sorted(dict(variables)))}) nor by the field before {name}. "
                "Write ${NAME:-} for one that may be missing, and \\$ for a dollar."
            ) from None
    return [f"{name}={value}" for name, value in env.items()]
