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
        ocaml-system benchmark camlp4 camlp-streams cppo_ocamlbuild cudf extlib getopt headache stdlib-random lwt_react opatch
        dune-action-plugin dune-build-info dune-configurator dune-glob dune-private-libs dune-rpc-lwt dune-site chrome-trace
        ocamlc-loc base stdio parsexp sexplib ppx_yojson_conv_lib fieldslib ppx_derivers ocaml_intrinsics_kernel
        jane-street-headers ocaml-compiler-libs octavius zarith_stubs_js bigstringaf camomile cpu csexp mem_usage
        ocplib-endian ohex parany parmap patch pprint qcheck-core reactiveData sha stringext swhid_core trie 0install
        opam-0install-cudf ocurl ssl
    """,
    "media": """
        ocaml-system alsa ao cry dssi faad flac frei0r gstreamer ladspa lame mm ogg opus portaudio pulseaudio shine soundtouch
        speex theora vorbis xmlplaylist conf-ffmpeg
    """,
}

# Debian's index of sources lists their archives, and its mirrors do not serve them: opam is to take other versions.
NOT_SERVED = ("lwt.5.9.1", "lwt.6.1.2")


def roots(group: str) -> List[str]:
    """The names of a group's roots, in order."""
    return GROUPS[group].split()
