# Namespaces of others, and new ones, in which a process has all capabilities over large parts of the kernel.
use strict;
use warnings;
use Fcntl;

our ( %arg, $first );

my %flags = (
    cgroup => 0x02000000,
    ipc    => 0x08000000,
    mnt    => 0x00020000,
    net    => 0x40000000,
    pid    => 0x20000000,
    time   => 0x00000080,
    user   => 0x10000000,
    uts    => 0x04000000,
);

# mmdebstrap may have mounts of its own: arguments say so for the phase that it runs in.
sub judge_new {
    my ( $kind, $works ) = @_;
    return refused() unless $works;
    my $mounts = $kind eq "mnt" && $arg{mounts};
    return harmless("mmdebstrap makes a root directory: mounts of its own, in a user namespace") if $mounts;
    return reached("a namespace of its own ($kind)");
}

group("namespaces");
for my $kind ( sort keys %flags ) {
    for my $of ( [ "process 1", $first ], [ "the caller", $arg{pid} ] ) {
        my ( $who, $pid ) = @$of;
        probe( "$kind namespace of $who", "enters it", sub {
            sysopen my $file, "/proc/$pid/ns/$kind", O_RDONLY or return refused();
            return judge( works( "setns", fileno $file, 0 ) );
        }, "setns" );
    }
    probe( "new $kind namespace", "makes one by unshare",
        sub { judge_new( $kind, works( "unshare", $flags{$kind} ) ) }, "unshare" );
    probe( "new $kind namespace by clone", "makes one by clone", sub {
        return absent("clone has no flag for it") if $kind eq "time";
        my ($child) = call( "clone", $flags{$kind} | 17, 0, 0, 0, 0 );
        POSIX::_exit(0) if defined $child && $child == 0;
        return judge_new( $kind, defined $child && $child > 0 );
    } );
    probe( "new $kind namespace by clone3", "makes one by clone3", sub {
        my $arguments = pack "Q11", $flags{$kind}, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0;
        my ($child) = call( "clone3", $arguments, length $arguments );
        POSIX::_exit(0) if defined $child && $child == 0;
        return judge_new( $kind, defined $child && $child > 0 );
    }, "clone3" );
}
probe( "ids of a new user namespace", "becomes root of a user namespace, and maps the machine's root", sub {
    return refused() unless works( "unshare", $flags{user} );
    open my $file, ">", "/proc/self/uid_map" or return refused();
    return judge( syswrite $file, "0 0 1" );
} );
probe( "parent of the user namespace", "asks for the user namespace outside (NS_GET_PARENT)", sub {
    sysopen my $file, "/proc/self/ns/user", O_RDONLY or return refused();
    my $parent = ioctl $file, 0xb702, 0;
    return judge($parent) unless $arg{unconfined};
    return absent("the machine's own has none");
} );
probe( "offsets of the time namespace", "changes the clock by offsets", sub {
    my $path = "/proc/self/timens_offsets";
    return refused() unless works( "unshare", $flags{time} );
    open my $file, ">", $path or return refused();
    return judge( syswrite $file, "monotonic 1000 0" );
} );

1;
