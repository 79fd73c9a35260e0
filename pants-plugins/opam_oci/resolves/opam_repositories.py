"""Brings the opam repositories that are solved against into processes."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping
from urllib.parse import parse_qs, urlsplit

from pants.base.build_environment import get_buildroot
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import (
    AddPrefix,
    CreateDigest,
    Digest,
    Directory,
    FileEntry,
    GlobMatchErrorBehavior,
    PathGlobs,
    RemovePrefix,
)
from pants.option.global_options import GlobalOptions

from opam_oci.downloads.credentials import Place, holds_secret, place, without_password
from opam_oci.downloads.fetch import FetchError, FetchRequest, fetch_file
from opam_oci.pants_engine.calls import (
    add_prefix,
    create_digest,
    environment_vars,
    get_digest_entries,
    remove_prefix,
    run_process,
    snapshot_of_globs,
)
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.hidden_files import hidden_files, hidden_message, ignore_rules
from opam_oci.sandbox.handover import handed_over
from opam_oci.sandbox.process import host_process
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class RepositoryFingerprints:
    """What `[opam].repositories` names, by content, in its order: "overlay tree:...", "upstream sha256:..."."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class OpamRepository:
    """An opam repository for a process: `path` is a directory or an archive in `digest`.

    `fingerprint` stands for its content: "tree:...", "git:..." or "sha256:...".
    """

    name: str
    path: str
    digest: Digest
    fingerprint: str


@dataclass(frozen=True)
class OpamRepositoryRequest:
    """An entry of `[opam].repositories`."""

    name: str
    location: str = field(repr=False)  # it may have a password


# What programs that use the network look for in their environment.
NETWORK_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")

ARCHIVE_REMEDY = (
    "Name a place that has this archive in `[opam].repositories`, or a mirror in `[opam].archive_mirrors` that has it by its "
    "sha256. If it is another archive by now, give that one's sha256 and size. A commit of a git repository or a directory "
    "of the build root can stand in its place."
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class InvalidRepositoryError(Exception):
    """An entry of `[opam].repositories` that cannot be used."""


@dataclass(frozen=True)
class Archive:
    """A repository's archive; `suffix` is its kind (".tar.zst"), `size` in bytes."""

    url: str = field(repr=False)  # it may have a password
    sha256: str
    size: int
    suffix: str


@dataclass(frozen=True)
class GitCommit:
    """A commit (40 hex digits) of a git repository."""

    url: str = field(repr=False)  # it may have a password
    commit: str


def parse_location(name: str, location: str) -> Archive | GitCommit | str:
    """An archive, a commit, or a directory in the build root. Raises InvalidRepositoryError."""
    origin = f"`[opam].repositories` has {name} = {without_password(location)!r}"
    if not _NAME.match(name):
        raise InvalidRepositoryError(f"{origin}, which is not a name for an opam repository.")
    if "://" not in location:
        path = posixpath.normpath(location)
        if path.startswith(("/", "..")) or path == ".":
            raise InvalidRepositoryError(f"{origin}; a path must be a directory below the build root.")
        return path
    try:
        url = urlsplit(location)
        fields = parse_qs(url.fragment)
    except ValueError as error:
        raise InvalidRepositoryError(f"{origin}, which is not a URL: {error}.") from None
    if url.password and "ssh" in url.scheme:
        raise InvalidRepositoryError(f"{origin} and a password, which ssh does not take: use a key, and an agent.")
    if url.scheme.startswith("git+"):
        if not re.fullmatch("[0-9a-f]{40}", url.fragment):
            raise InvalidRepositoryError(
                f"{origin}, without a commit: add `#<40 hex digits>`. A branch or a tag may move, and lockfiles that were "
                "generated at different times would then not be for the same repository."
            )
        return GitCommit(url._replace(scheme=url.scheme[len("git+") :], fragment="").geturl(), url.fragment)
    sha256, size = fields.get("sha256", [""])[0], fields.get("size", [""])[0]
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not re.fullmatch("[0-9]{1,18}", size):
        raise InvalidRepositoryError(
            f"{origin}, without the archive's checksum and size: add `#sha256=<64 hex digits>&size=<bytes>`. (For a git "
            "repository write `git+https://...#<commit>`.)"
        )
    match = re.search(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|tbz|txz|zip)\Z", url.path)
    return Archive(url._replace(fragment="").geturl(), sha256, int(size), match[0] if match else "")


async def read_directory(name: str, location: str, *, must_exist: bool) -> OpamRepository:
    """A directory below the build root. Raises InvalidRepositoryError if it has no file but must have."""
    path = f"repos/{name}"
    snapshot = await snapshot_of_globs(
        PathGlobs([f"{location}/**"], glob_match_error_behavior=GlobMatchErrorBehavior.ignore)
    )
    if must_exist and not snapshot.files:
        raise InvalidRepositoryError(
            f"`[opam].repositories` has {name} = {location!r}, and Pants finds no file in that directory of the build root. "
            "Put the opam repository there (the directory that has `packages/`), or correct the path. If the files are "
            "there, `.gitignore` or `[GLOBAL].pants_ignore` hides them."
        )
    everything = await remove_prefix(RemovePrefix(snapshot.digest, location))
    # git carries no empty directories, so that they must not count: two clones would differ.
    entries = [one for one in await get_digest_entries(everything) if not isinstance(one, Directory)]
    content = await create_digest(CreateDigest(entries))
    return OpamRepository(name, path, await add_prefix(AddPrefix(content, path)), f"tree:{content.fingerprint}")


async def check_nothing_hidden(repositories: Mapping[str, str], options: GlobalOptions) -> None:
    """Raise InvalidRepositoryError for a directory that has files for opam which Pants does not see.

    It looks at the disk, which the engine does not watch for this: for rules that run in every session.
    """
    for name, text in repositories.items():
        location = parse_location(name, text)
        if isinstance(location, str):
            snapshot = await snapshot_of_globs(
                PathGlobs([f"{location}/**"], glob_match_error_behavior=GlobMatchErrorBehavior.ignore)
            )
            root = Path(get_buildroot())
            hidden = hidden_files(root, location, set(snapshot.files))
            if hidden:
                rules = ignore_rules(root, options.pants_ignore_use_gitignore, options.pants_ignore)
                raise InvalidRepositoryError(hidden_message(name, location, hidden, rules))


# $3 is where there is something to hand over: proxies, and a password as git's own helper reads it.
# The commit is asked for alone first, as most servers allow; from others everything is fetched. What git unpacks is the
# commit that was asked for, as its name is its content's checksum.
_GIT = """
set -eu
command -v git >/dev/null || { echo "git is not on this machine (Debian package git)" >&2; exit 1; }
git init --quiet --bare repository
cd repository
if [ -n "$3" ]; then
  . "$3/environment"
  if [ -e "$3/git-credentials" ]; then
    git config credential.helper ""
    git config --add credential.helper "store --file='$3/git-credentials'"
  fi
fi
git fetch --quiet --depth=1 "$1" "$2" 2>../first ||
  git fetch --quiet "$1" "+refs/*:refs/fetched/*" ||
  { cat ../first >&2; exit 1; }
git archive --format=tar --output=../repository.tar "$2"
"""


def _secrets_of_git(source: Place, env: Mapping[str, str]) -> dict[str, str]:
    """The files that git is handed, by their names; none where there is no secret. `env`: variables that are secret."""
    if not source.userinfo and not env:
        return {}
    files = {"environment": "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())}
    if source.userinfo:
        url = urlsplit(source.url)
        user, _, password = source.userinfo.partition(":")
        files["git-credentials"] = f"{url.scheme}://{user}:{password}@{url.netloc}\n"
    return files


async def fetch_commit(name: str, location: GitCommit) -> OpamRepository:
    """A repository at a commit, as a tar file. Raises InvalidRepositoryError with git's reason."""
    env = await environment_vars(EnvironmentVarsRequest([*NETWORK_VARIABLES, "HOME", "SSH_AUTH_SOCK"]))
    source = place(location.url)
    shown = {name: value for name, value in env.items() if not holds_secret(value)}
    files = _secrets_of_git(source, {name: value for name, value in env.items() if holds_secret(value)})
    with ExitStack() as stack:
        # Of the same name in each run, as the path is a part of the cache's key; of another one in another checkout.
        key = hashlib.sha256(f"{get_buildroot()} {source.url}".encode()).hexdigest()[:16]
        secrets = stack.enter_context(handed_over(files, f"git-{key}")) if files else ""
        result = await run_process(
            host_process(
                ["/bin/sh", "-c", _GIT, "git", source.url, location.commit, secrets],
                f"Fetch the opam repository {name} at the commit {location.commit[:12]}",
                env={**shown, "GIT_TERMINAL_PROMPT": "0"},
                output_files=("repository.tar",),
            )
        )
    if result.exit_code != 0:
        # Both of git's attempts often say the same.
        lines = dict.fromkeys(result.stderr.decode(errors="replace").splitlines())
        said = without_password("\n".join(f"  {line}" for line in lines if line))
        raise InvalidRepositoryError(
            f"The commit {location.commit} of the opam repository {name} (`[opam].repositories`) cannot be fetched from "
            f"{without_password(location.url)}:\n{said}\n"
            "Correct the URL or the commit, or name a copy of the repository that this machine reaches: a git repository, "
            "an archive with its sha256 and size, or a directory of the build root."
        )
    path = f"repos/{name}"
    return OpamRepository(
        name,
        f"{path}/repository.tar",
        await add_prefix(AddPrefix(result.output_digest, path)),
        f"git:{location.commit}",
    )


@rule
async def find_opam_repository(request: OpamRepositoryRequest) -> OpamRepository:
    """An entry of `[opam].repositories`, fetched. Raises InvalidRepositoryError, FetchError."""
    location = parse_location(request.name, request.location)
    if isinstance(location, str):
        return await read_directory(request.name, location, must_exist=True)
    if isinstance(location, GitCommit):
        return await fetch_commit(request.name, location)
    path = f"repos/{request.name}{location.suffix}"
    fetched = await fetch_file(
        FetchRequest(
            owner=f"the opam repository {request.name} of `[opam].repositories`",
            name=posixpath.basename(urlsplit(location.url).path) or without_password(location.url),
            urls=(location.url,),
            sha256=location.sha256,
            size=location.size,
            remedy=ARCHIVE_REMEDY,
        ),
        **implicitly(),
    )
    if fetched.error is not None:
        raise FetchError(fetched.error)
    digest = await create_digest(CreateDigest([FileEntry(path, fetched.file_digest)]))
    return OpamRepository(request.name, path, digest, f"sha256:{location.sha256}")


@rule
async def find_fingerprints(opam: OpamSubsystem) -> RepositoryFingerprints:
    """Fetches nothing: where a lockfile is fresh, building needs no repository. A directory that is gone counts as empty."""
    lines = []
    for name, text in opam.ordered_repositories().items():
        location = parse_location(name, text)
        if isinstance(location, str):
            repository = await read_directory(name, location, must_exist=False)
            lines.append(f"{name} {repository.fingerprint}")
        elif isinstance(location, GitCommit):
            lines.append(f"{name} git:{location.commit}")
        else:
            lines.append(f"{name} sha256:{location.sha256}")
    return RepositoryFingerprints(tuple(lines))


def rules() -> list[object]:
    return [*collect_rules()]
