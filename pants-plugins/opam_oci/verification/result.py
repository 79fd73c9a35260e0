"""What came of making an image again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from opam_oci.image_reports.differences import Change, Difference
from opam_oci.image_reports.file_differences import FileDifferences
from opam_oci.subsystems.rebuild import Rebuild
from opam_oci.verification.inputs import InputDifferences
from opam_oci.verification.json_differences import JsonDifference
from opam_oci.verification.recorded import Recorded


class Verdict(Enum):
    """`identical`: the manifests are the same bytes, and so all of the image. `same_contents`: the configurations are the same
    bytes, and each layer has the content that they name, while the manifests differ. `different`: anything else."""

    identical = "identical"
    same_contents = "same-contents"
    different = "different"


@dataclass(frozen=True)
class Verification:
    """rebuilt: what was made in this run, and is not from a cache. plugin: in-toto's `dirHash` of what made them.

    difference: the published image is what was before. files: None where the manifests are the same bytes. manifest: values of
    the two manifests that differ, where the verdict is `same_contents`.
    """

    target: str
    rebuilt: Rebuild
    plugin: str
    recorded: Recorded
    inputs: InputDifferences
    difference: Difference
    files: FileDifferences | None
    manifest: tuple[JsonDifference, ...]

    @property
    def verdict(self) -> Verdict:
        """See there."""
        if self.difference.is_same_image:
            return Verdict.identical
        return Verdict.same_contents if has_same_contents(self.difference, self.files) else Verdict.different

    @property
    def is_reproduced(self) -> bool:
        """Whether it is shown that the image can be made again."""
        return self.rebuilt is Rebuild.all and self.verdict is Verdict.identical


def has_same_contents(difference: Difference, files: FileDifferences | None) -> bool:
    """Whether two images have one configuration, and layers of the content that it names. files: of all layers whose blobs
    differ, since what a configuration says of a blob need not be so."""
    one, other = difference.before.configuration, difference.after.configuration
    if not one or one != other or files is None:
        return False
    compared = {layer.number for layer in files.layers if not layer.paths}
    return all(layer.change is Change.repacked and number in compared for number, layer in enumerate(difference.layers))
