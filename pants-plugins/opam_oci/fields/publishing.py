"""Fields of `oci_package_image`: where it is published."""

from __future__ import annotations

from pants.engine.target import BoolField, StringSequenceField
from pants.util.docutil import bin_name
from pants.util.strutil import help_text


class OciImageRepositoriesField(StringSequenceField):
    alias = "repositories"
    help = help_text(
        f"""
        Where `{bin_name()} publish` puts the image:

          * `"@name"`: the registry or layout directory of that name in `[oci-publish].registries`; with a path,
            `"@name/tools/{{name}}"`, the image has that path there
          * `"registry.example.org/tools/{{name}}"`: a registry, and the image's path
          * `"oci:/srv/images"`: a directory that many publish to at once, an OCI image layout. The image is named
            `{{name}}:{{tag}}` in its index; `"oci:/srv/images:tools/{{name}}"` says another name before the tag

        Placeholders are those of `image_tags`. Where the path is left out, it is that of the registry's `repository`
        or of `[oci-publish].default_repository`. Two entries that are the same place are an error, and so are two targets
        that one run would publish under one name.

        Default: all registries with `default = true`; with none of them, the image is not published. `[]` keeps it
        from being published.
        """
    )


class OciImageTagsField(StringSequenceField):
    alias = "image_tags"
    default = ("latest",)
    value: tuple[str, ...]
    help = help_text(
        """
        The tags that the image is published with, in every repository. They may contain placeholders:

          * `{versions.0install}`: the version of a package of the image's resolve (what a tag cannot hold becomes
            `-`)
          * `{pants.hash}`: the digest of the image's manifest, 64 digits; the same for the same image
          * `{env.GIT_COMMIT}`: a variable named in `[oci-publish].tag_env_vars`
          * `{name}`, `{directory}`, `{parent_directory}`: of this target
          * `{parameters.compression}`: of a target with `compression=parametrize("gzip", "zstd")`, the value that it has

        A tag that is there twice counts once. Tags are in no cache key: changing them builds nothing.
        """
    )


class OciImageSkipPushField(BoolField):
    alias = "skip_push"
    default = False
    value: bool
    help = help_text(
        f"""
        If true, `{bin_name()} publish` neither builds nor publishes the image. Default: false.

        `skip_push` of an entry of `[oci-publish].registries` does so for one registry.
        """
    )
