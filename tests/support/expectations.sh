# What programs expect of a machine, as commands that fail where it is not so. Prints `ok` or `FAILED`, and the name.
expect() {
  name=$1
  shift
  if "$@" > said 2>&1; then echo "ok $name"; else echo "FAILED $name: $(head -c 300 said | tr '\n' ' ')"; fi
}
says() {
  wanted=$1
  shift
  [ "$("$@" 2>&1)" = "$wanted" ] || { "$@"; return 1; }
}

cat > list.c <<'END'
#include <dirent.h>
#include <stdio.h>
int main(int n, char **argument) {
  DIR *dir = opendir(argument[1]);
  struct dirent *entry;
  while ((entry = readdir(dir)))
    if (entry->d_name[0] != '.') printf("%s", entry->d_name);
  return closedir(dir);
}
END
cat > wrong.c <<'END'
#include <stdlib.h>
int main(int n, char **argument) { char *room = malloc(8); room[8 + n - 1] = 1; return 0; }
END
cat > lost.c <<'END'
#include <stdlib.h>
static void *volatile kept;
int main(void) { kept = malloc(8); kept = NULL; return 0; }
END
mkdir listed && for name in c a d b; do touch listed/$name; done
finds() { # PROGRAM ERROR: it ends with this error
  ./$1 > found 2>&1 && return 1
  grep -q "$2" found
}

# -- names
expect "localhost" sh -c 'getent ahosts localhost | grep -q "^127.0.0.1 " && getent ahosts localhost | grep -q "^::1 "'
expect "localhost of IPv4" says 127.0.0.1 perl -MSocket -e 'print inet_ntoa(inet_aton("localhost"))'
expect "its own name" sh -c 'getent hosts "$(hostname)"'
expect "its own name, whole" says localhost hostname -f
expect "no name server" sh -c 'start=$(date +%s); getent hosts example.org; [ $? = 2 ] && [ $(($(date +%s) - start)) -le 3 ]'
expect "a server of its own" perl -MIO::Socket::INET -e '
  my $server = IO::Socket::INET->new(LocalAddr => "localhost", Listen => 1) or die $@;
  IO::Socket::INET->new(PeerAddr => "localhost", PeerPort => $server->sockport) or die $@'

# -- terminals
expect "pseudo terminals" says /dev/pts/0 script -qec 'tty | tr -d "\n"' /dev/null
expect "they are terminals" script -qec 'test -t 0 -a -t 1 -a -t 2' /dev/null
expect "the terminal of a session" sh -c 'script -qec "echo said > /dev/tty" /dev/null | grep -q said'
expect "no terminal of the machine" sh -c '! tty && ! (: < /dev/tty)'
expect "the mode of one's own terminal" script -qec 'chmod 600 $(tty)' /dev/null
expect "not that of all" sh -c '! chmod 0 /dev/ptmx && ! chmod 0 /dev/pts/ptmx'
expect "opened by both names" perl -e 'for (qw(/dev/ptmx /dev/pts/ptmx)) { open my $f, "+<", $_ or die "$_: $!" }'

# -- /dev
expect "/dev/fd" says x sh -c 'echo x | cat /dev/fd/0'
expect "/dev/stdin" says x sh -c 'echo x | cat /dev/stdin'
expect "/dev/stdout" sh -c 'echo x > /dev/stdout && echo x > /dev/stderr'
expect "/dev/shm" sh -c 'echo x > /dev/shm/x && [ "$(stat -c %a /dev/shm)" = 1777 ] && rm /dev/shm/x'
expect "nothing else in /dev" sh -c '! touch /dev/x'

# -- user, time, language
expect "the user" says "opam 1000 1000 /home/opam" perl -e 'print join " ", (getpwuid $<)[0, 2, 3, 7]'
expect "the group" says opam id -gn
expect "HOME" sh -c 'cd && pwd && [ "$HOME" = /home/opam ] && echo x > x && rm x'
expect "temporary files" sh -c 'rm "$(mktemp)" && rm "$(mktemp -p /var/tmp)" && [ "$(stat -c %a /tmp)" = 1777 ]'
expect "time zone" says "UTC UTC" sh -c 'echo $(date +%Z) $(env -i date +%Z)'
expect "locale" says UTF-8 locale charmap
expect "umask" says 0022 sh -c umask

# -- limits
expect "stack" says "8192 8192" sh -c 'echo $(ulimit -Ss) $(env -i sh -c "ulimit -Ss")'
expect "a larger stack" sh -c 'ulimit -Ss "$(ulimit -Hs)"'
expect "memory, files, time" says "unlimited unlimited unlimited unlimited" \
  sh -c 'for limit in v d f t; do test "$(ulimit -S$limit)" = "$(ulimit -H$limit)" && echo unlimited; done | xargs'

# -- who preloads what
expect "no variable" sh -c '! env | grep LD_'
expect "sorted" sh -c 'gcc list.c -o list && [ "$(./list listed)" = abcd ]'
expect "sorted without environment" says abcd env -i ./list listed
expect "static" sh -c 'gcc -static list.c -o static && ./static listed | grep -q a'
for kind in address thread leak undefined; do
  expect "sanitizer: $kind" sh -c "gcc -fsanitize=$kind list.c -o $kind && [ \"\$(./$kind listed)\" = abcd ]"
done
expect "sanitizer, static" sh -c 'gcc -static-libasan -fsanitize=address list.c -o in && [ "$(./in listed)" = abcd ]'
expect "it finds" sh -c 'gcc -g -fsanitize=address wrong.c -o wrong && gcc -fsanitize=address lost.c -o lost'
expect "what is written too far" finds wrong heap-buffer-overflow
expect "what is lost" finds lost "detected memory leaks"
expect "another preloaded one" sh -c 'gcc -shared -fPIC -xc /dev/null -o own.so && LD_PRELOAD=$PWD/own.so ldd ./list | grep -q own.so'
expect "no arrow where libraries are listed" sh -c '! ldd ./list | grep "=>.*sorted-readdir"'
expect "set-uid" sh -c 'cp list set && chmod u+s set && [ "$(./set listed)" = abcd ]'
true
