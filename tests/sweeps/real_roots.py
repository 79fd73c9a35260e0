"""The roots of the sweep over real packages: group -> names. All of them go into one switch on Debian 13's OCaml 5.3.0."""

from __future__ import annotations

# Every group is an image of its own, and a switch of its own by hand; groups share layers.
GROUPS = {
    "conf": """
        ocaml-system conf-zlib conf-perl conf-m4 conf-which conf-git conf-automake conf-sdl2 conf-libpcre conf-bash
        conf-diffutils conf-graphviz
    """,
    "find": """
        ocaml-system astring benchmark camlp4 camlidl camlp-streams cppo_ocamlbuild cudf curses extlib getopt headache hmap
        js_of_ocaml-ocamlbuild num obuild ocaml-expat ocamlwc omake stdlib-random syslog tophide xml-light afl-persistent
    """,
    "dune": """
        ocaml-system dune-action-plugin dune-build-info dune-configurator dune-glob dune-private-libs dune-rpc-lwt dune-site
        chrome-trace ocamlc-loc base stdio parsexp sexplib ppx_yojson_conv_lib fieldslib variantslib typerep ppx_derivers
        ocaml_intrinsics_kernel jane-street-headers ocaml-compiler-libs octavius cinaps spawn zarith_stubs_js
    """,
    "libraries": """
        ocaml-system atdgen-codec-runtime batteries bigarray-compat bigstringaf calendar camomile cohttp-server-lwt-unix cpu cry
        csexp domain-name dtools duration duppy easy-format gmap http inotify iter lru lwt-dllist lwt_log magic-mime mem_usage
        mirage-clock-unix mmap multicore-magic ocplib-endian ohex optint out-channel-redirect parany parmap patch pprint process
        psq qcheck-core randomconv re reactiveData res rope sha stringext swhid_core trie
    """,
    "programs": """
        ocaml-system 0install cpdf camlpdf ocamlformat-rpc-lib opam-0install-cudf opam-file-format opatch spdx_licenses unison
        gsl graphics sqlite3 postgresql ssl ocurl
    """,
    "media": """
        ocaml-system alsa ao dssi faad flac frei0r gavl gstreamer ladspa lame lastfm metadata mm ogg opus portaudio pulseaudio
        shine soundtouch speex theora voaacenc vorbis xmlplaylist ffmpeg
    """,
}


def roots(group: str) -> "list[str]":
    """The names of a group's roots, in order."""
    return GROUPS[group].split()
