"""Layers of which a client can fetch single files: zstd:chunked, the format of containers/storage.

To all others such a blob is ordinary zstd: frames one after another, and frames that decoders skip. Source: what
containers/storage reads and writes (`pkg/chunked`); there is no other specification.
"""
