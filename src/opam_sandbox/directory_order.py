"""Has the programs of a build see every directory sorted by name.

In what order the kernel lists a directory depends on the file system, on a secret of its own (ext4's hash seed) and, in
memory, on the kernel's version. Builds let it slip into what they install: ocamlbuild passes `-I` in that order, and compilers
write their command lines into .cmt and .cmti files. A library that is preloaded into every program sorts what readdir(3) gives.
It is compiled by the base's own gcc, once for each base, and kept in the store.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import Layer
from opam_sandbox.overlay import Overlay
from opam_sandbox.store import Store

LIBRARY = "sorted-readdir.so"

# "." and ".." stay in front, as some programs skip two entries unseen.
SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct listing {
  DIR *dir;
  struct dirent **entries;
  size_t count, next;
  int error;
  struct listing *rest;
};

static struct listing *open_listings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int rank(const char *name) {
  return strcmp(name, ".") == 0 ? 0 : strcmp(name, "..") == 0 ? 1 : 2;
}

static int by_name(const void *left, const void *right) {
  const char *a = (*(struct dirent *const *)left)->d_name, *b = (*(struct dirent *const *)right)->d_name;
  int difference = rank(a) - rank(b);
  return difference ? difference : strcmp(a, b);
}

static void *next_of(const char *name) {
  return dlsym(RTLD_NEXT, name);
}

static void release(struct listing *listing) {
  for (size_t i = 0; i < listing->count; i++)
    free(listing->entries[i]);
  free(listing->entries);
  free(listing);
}

static struct listing *find(DIR *dir) {
  struct listing *listing = open_listings;
  while (listing && listing->dir != dir)
    listing = listing->rest;
  return listing;
}

static void forget(DIR *dir) {
  for (struct listing **link = &open_listings; *link; link = &(*link)->rest)
    if ((*link)->dir == dir) {
      struct listing *listing = *link;
      *link = listing->rest;
      release(listing);
      return;
    }
}

static struct listing *list(DIR *dir) {
  static struct dirent *(*real)(DIR *);
  size_t room = 0;
  struct dirent *entry;
  struct listing *listing = calloc(1, sizeof *listing);
  if (!real)
    real = next_of("readdir");
  if (!listing)
    return NULL;
  listing->dir = dir;
  errno = 0;
  while ((entry = real(dir))) {
    if (listing->count == room) {
      struct dirent **more = realloc(listing->entries, (room = room ? 2 * room : 32) * sizeof *more);
      if (!more)
        goto fail;
      listing->entries = more;
    }
    struct dirent *copy = malloc(entry->d_reclen);
    if (!copy)
      goto fail;
    memcpy(copy, entry, entry->d_reclen);
    listing->entries[listing->count++] = copy;
    errno = 0;
  }
  listing->error = errno;
  if (listing->count > 1)
    qsort(listing->entries, listing->count, sizeof *listing->entries, by_name);
  listing->rest = open_listings;
  open_listings = listing;
  return listing;
fail:
  release(listing);
  errno = ENOMEM;
  return NULL;
}

struct dirent *readdir(DIR *dir) {
  int before = errno;
  struct dirent *entry = NULL;
  pthread_mutex_lock(&lock);
  struct listing *listing = find(dir);
  if (!listing)
    listing = list(dir);
  if (listing) {
    errno = before;
    if (listing->next < listing->count)
      entry = listing->entries[listing->next++];
    else if (listing->error)
      errno = listing->error;
  }
  pthread_mutex_unlock(&lock);
  return entry;
}

#ifdef __LP64__
struct dirent64 *readdir64(DIR *dir) {
  return (struct dirent64 *)readdir(dir); /* one structure with two names */
}
#endif

int closedir(DIR *dir) {
  int (*real)(DIR *) = (int (*)(DIR *))next_of("closedir");
  pthread_mutex_lock(&lock);
  forget(dir);
  pthread_mutex_unlock(&lock);
  return real(dir);
}

void rewinddir(DIR *dir) {
  void (*real)(DIR *) = (void (*)(DIR *))next_of("rewinddir");
  pthread_mutex_lock(&lock);
  forget(dir);
  real(dir);
  pthread_mutex_unlock(&lock);
}

long telldir(DIR *dir) {
  pthread_mutex_lock(&lock);
  struct listing *listing = find(dir);
  long place = listing ? (long)listing->next : 0;
  pthread_mutex_unlock(&lock);
  return place;
}

void seekdir(DIR *dir, long place) {
  pthread_mutex_lock(&lock);
  struct listing *listing = find(dir);
  if (!listing && place > 0)
    listing = list(dir);
  if (listing)
    listing->next = place < 0 ? 0 : (size_t)place;
  pthread_mutex_unlock(&lock);
}
"""


def library(overlay: Overlay, store: Store, base: Layer, log: BinaryIO) -> Optional[Path]:
    """The library for programs of this base, compiled in the merged view if nobody has yet; None if the base cannot."""
    root = overlay.root
    if not os.path.lexists(root / "usr/bin/gcc"):
        return None
    # It is loaded into every program, ten thousand times by one `configure`: it has nothing to run at its start, as few
    # segments to map as can be, and needs libdl only where that is a library.
    command = ["gcc", "-shared", "-fPIC", "-O2", "-s", "-nostartfiles", "-Wl,--as-needed"]
    command += ["-Wl,-z,norelro", "-Wl,-z,noseparate-code", "-Wl,--hash-style=gnu"]
    command += ["-o", f"/tmp/{LIBRARY}", "/tmp/readdir.c", "-ldl", "-lpthread"]
    key = hashlib.sha256("\n".join([base.diff_id, *command, SOURCE]).encode()).hexdigest()

    def fill(target: Path) -> None:
        (root / "tmp" / "readdir.c").write_text(SOURCE)
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": "/tmp"}
        done = overlay.run(command, env, log, user=False)
        if done.returncode != 0:
            raise ToolError(f"the base's gcc made no library (exit status {done.returncode})")
        shutil.copyfile(root / "tmp" / LIBRARY, target / LIBRARY)
        os.chmod(target / LIBRARY, 0o644)
        for name in ("readdir.c", LIBRARY):
            (root / "tmp" / name).unlink()

    try:
        return store.put(key, fill) / LIBRARY
    except ToolError:
        return None  # such as a gcc without libc's headers: as little use as none
