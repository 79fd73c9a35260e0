"""An in-toto statement that an image was made again, byte for byte. docs/provenance.md says what is in it.

Nobody has signed it, and there is nothing of the run, the machine or the time in it: who signs it, says that he has seen it.
"""

from __future__ import annotations

from opam_oci.images.package_urls import image_purl
from opam_oci.images.provenance_document import MEDIA_TYPE, STATEMENT_TYPE
from opam_oci.images.referrers import Document
from opam_oci.images.sbom_documents import encode
from opam_oci.verification.result import Verification
from opam_oci.verification.result_json import dependency_values

PREDICATE_TYPE = "urn:opam-oci-pants:reproduced:v1"
SUFFIX = ".reproduced.json"


def reproduced(result: Verification, name: str) -> Document:
    """The statement, attached to the image. `name`: the image's, without a version."""
    assert result.is_reproduced
    image = result.difference.before.manifest
    algorithm, _, digest = image.partition(":")
    text = encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": image_purl(name, image), "digest": {algorithm: digest}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "target": result.target,
                "compared": "manifest",
                "result": result.verdict.value,
                "plugin": {"digest": {"dirHash": result.plugin}},
                "provenance": {"digest": {"sha256": result.recorded.sha256}},
                "dependencies": {
                    "same": result.inputs.same,
                    "differ": [dependency_values(one) for one in result.inputs.dependencies],
                },
            },
        }
    )
    return Document(SUFFIX[1:], MEDIA_TYPE, text, True, PREDICATE_TYPE)
