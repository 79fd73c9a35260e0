"""A fresh machine beside a remote cache (build-support/cache-server) that another machine's build has filled.

The fresh machine has a clone elsewhere, empty caches, no pantsd, and no place to fetch a source from: what it needs comes
from the cache. Pants' own environment is installed. Baseline: the build that filled the cache, from nothing, until its
image was written (it ends later, when all is uploaded), without pantsd as well.
"""

from __future__ import annotations

import time
from typing import List

from bench.figures import Row
from bench.session import Session, caches_of, counters, disk_use, say
from tests.support.cache_server import RemoteCache
from tests.support.checkout import CommandFailed

NOWHERE = ["--debian-mirrors=['http://127.0.0.1:9']", "--opam-archive-mirrors=[]"]


def run(session: Session) -> List[Row]:
    address = session.example.address
    server = RemoteCache(session.directory("server"))
    server.start()
    try:
        options = ["--no-pantsd", *server.options]
        # Pants gives up on what is not uploaded some seconds after the image is written.
        writer = session.checkout("writer", options=[*options, "--session-end-tasks-timeout=900"])
        say(f"building {address} from nothing, and filling the cache ...")
        begin = time.time()
        writer.run("package", address)
        index = writer.root / "dist/images" / session.example.name / "index.json"
        cold, uploaded = index.stat().st_mtime - begin, time.time() - begin

        reader = session.checkout("reader", options=options)
        say("the same on a fresh machine ...")
        begin = time.perf_counter()
        done = reader.run(*NOWHERE, "--stats-log", "package", address)
        warm = time.perf_counter() - begin
        again = reader.root / index.relative_to(writer.root)
        if again.read_bytes() != index.read_bytes():
            raise CommandFailed("the fresh machine's image is another one")
        processes = counters(done.stderr).get("local_execution_requests", 0)
        downloaded = disk_use(caches_of(reader)[0])
    finally:
        server.stop()
    details = {"cold_with_upload": uploaded, "store_bytes": downloaded, "processes": processes}
    subject = f"fresh machine, {processes} processes run"
    return [Row("remote", subject, warm, "the image from nothing", cold, goal=0.05, details=details)]
