/* Sorts what readdir(3) gives, by name: preloaded into every program of a build. See sorted_readdir.py.
   "." and ".." stay in front, as some programs skip two entries unseen. */

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
