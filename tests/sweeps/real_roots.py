"""The roots of the sweep over real packages: group -> names. All of them go into one switch on Debian 13's OCaml 5.3.0."""

from __future__ import annotations

from typing import List

# Every group is an image of its own, and a switch of its own by hand; groups share layers.
GROUPS = {
    "conf": """
        ocaml-system conf-zlib conf-perl conf-m4 conf-which conf-git conf-automake conf-sdl2 conf-bash conf-diffutils
        conf-graphviz conf-gsl conf-postgresql conf-sqlite3 conf-libX11 conf-ncurses
    """,
    "find": """
        ocaml-system astring num ocaml-expat ocamlwc omake gavl voaacenc
    """,
    "dune": """
        ocaml-system dune-action-plugin dune-build-info dune-configurator dune-glob dune-private-libs dune-rpc-lwt dune-site
        chrome-trace ocamlc-loc parsexp sexplib ppx_derivers jane-street-headers octavius zarith_stubs_js benchmark camlp-streams
        cudf extlib getopt opatch bigstringaf cpu csexp mem_usage ocplib-endian ohex patch pprint reactiveData sha ssl
        stringext swhid_core trie
    """,
    "more": """
        ocaml-system base stdio ppx_yojson_conv_lib fieldslib ocaml_intrinsics_kernel ocaml-compiler-libs camlp4 cppo_ocamlbuild
        stdlib-random lwt_react headache camomile parany parmap qcheck-core 0install opam-0install-cudf ocurl
    """,
    "media": """
        ocaml-system alsa ao cry dssi faad flac frei0r gstreamer ladspa lame mm ogg opus portaudio pulseaudio shine soundtouch
        speex theora vorbis xmlplaylist conf-ffmpeg
    """,
}


def roots(group: str) -> List[str]:
    """The names of a group's roots, in order."""
    return GROUPS[group].split()
