# Memory, messages and keys that processes share by names and numbers.
use strict;
use warnings;
use Fcntl;

our %arg;

group("System V");
probe( "shared memory by key", "takes it by its key", sub { judge( defined shmget $arg{shm}, 1, 0 ) } );
probe( "shared memory by number", "reads it", sub {
    my $text = "";
    return judge( shmread( $arg{shm_id}, $text, 0, 32 ) && has_secret($text) );
} );
probe( "shared memory, writing", "writes into it", sub { judge( shmwrite $arg{shm_id}, "x", 4000, 1 ) } );
probe( "semaphores", "takes them by their key", sub { judge( defined semget $arg{sem}, 1, 0 ) } );
probe( "message queue by key", "takes it by its key", sub { judge( defined msgget $arg{msg}, 0 ) } );
probe( "message queue by number", "sends a message",
    sub { judge( msgsnd $arg{msg_id}, pack( "l! a*", 1, "probe" ), 04000 ) } );
for my $name ( [ "shm", "shm" ], [ "sem", "sem" ], [ "msg", "msg" ] ) {
    probe( "list of $name->[0]", "looks for the machine's in /proc/sysvipc/$name->[0]",
        sub { my $text = content("/proc/sysvipc/$name->[0]"); judge( defined $text && $text =~ /\b$arg{ $name->[1] }\b/ ) } );
}

group("POSIX");
probe( "shared memory by name", "opens it", sub { reads_secret("/dev/shm/$arg{posix}") } );
probe( "shared memory by name, writing", "opens it for writing", sub { judge( writable("/dev/shm/$arg{posix}") ) } );
probe( "message queue by name", "opens it",
    sub { judge( works( "mq_open", $arg{mq}, O_RDWR | O_NONBLOCK, 0, 0 ) ) } );
probe( "message queue of the caller by /dev", "opens it as a file", sub { judge( writable("/dev/mqueue/$arg{mq}") ) } );

group("keys");
probe( "key by number", "reads a key of the caller", sub {
    my $room = "\0" x 64;
    my ($size) = call( "keyctl", 11, $arg{key} + 0, $room, 64 );
    return judge( $size > 0 && has_secret($room) );
}, "keyctl" );
probe( "key's description", "asks what the key is",
    sub { my $room = "\0" x 64; judge( works( "keyctl", 6, $arg{key} + 0, $room, 64 ) ) }, "keyctl" );
probe( "key in the session", "looks for the key in its session",
    sub { judge( works( "request_key", "user", $arg{key_name}, 0, 0 ) ) }, "request_key" );
probe( "new key in the session", "adds a key to its session", sub {
    my ($key) = call( "add_key", "user", "opam-oci-new", "x", 1, -3 );
    return refused() if $key == -1;
    call( "keyctl", 9, $key + 0, -3 ) if $arg{unconfined};
    return reached();
}, "add_key" );
probe( "new key of the user", "adds a key to those of its user", sub {
    my ($key) = call( "add_key", "user", "opam-oci-new", "x", 1, -4 );
    return refused() if $key == -1;
    call( "keyctl", 9, $key + 0, -4 ) if $arg{unconfined};
    return reached();
}, "add_key" );
probe( "keys of the user", "lists the keys of its user",
    sub { my $room = "\0" x 64; judge( works( "keyctl", 11, -4, $room, 64 ) ) }, "keyctl" );
probe( "keyring for good", "has the keyring of its user that outlives sessions",
    sub { judge( works( "keyctl", 22, -1, -2 ) ) }, "keyctl" );
probe( "session by name", "joins the session of another",
    sub { judge( works( "keyctl", 1, "opam-oci-session" ) ) }, "keyctl" );
probe( "list of keys", "looks for the key in /proc/keys",
    sub { my $text = content("/proc/keys"); judge( defined $text && index( $text, $arg{key_name} ) >= 0 ) } );
probe( "list of users of keys", "reads /proc/key-users", sub { judge( length( content("/proc/key-users") || "" ) ) } );

1;
