"""Fuzzing: each module is a subject, a reader of what packages, archives, registries and users write.

A subject has

    SEEDS: List[bytes]           good inputs, and such that were found to be bad for somebody
    def run(data: bytes) -> None raises for a find and for nothing else; errors that users may see it catches itself
    TOKENS: List[bytes]          optional: words of the format
    def examples()               optional: a strategy of hypothesis for further inputs

Modules whose names begin with `_` are no subjects. tests/unit/test_fuzz.py runs all of them with hypothesis,
`build-support/fuzz` with atheris.
"""
