# Devices: those that are there, those that are made anew, what their drivers do; the terminal of the caller.
use strict;
use warnings;
use Fcntl;

our %arg;

# name, kind, numbers. Where the machine has the device under numbers of its own, arguments say so: "kvm=c:10:232".
my @devices = (
    [ "autofs",       "c", 10,  235 ],
    [ "btrfs-control", "c", 10, 234 ],
    [ "console",      "c", 5,   1 ],
    [ "cpu_dma_latency", "c", 10, 259 ],
    [ "fuse",         "c", 10,  229 ],
    [ "hwrng",        "c", 10,  183 ],
    [ "kmsg",         "c", 1,   11 ],
    [ "kvm",          "c", 10,  232 ],
    [ "loop-control", "c", 10,  237 ],
    [ "loop0",        "b", 7,   0 ],
    [ "mem",          "c", 1,   1 ],
    [ "net/tun",      "c", 10,  200 ],
    [ "port",         "c", 1,   4 ],
    [ "ptmx",         "c", 5,   2 ],
    [ "snapshot",     "c", 10,  231 ],
    [ "tty0",         "c", 4,   0 ],
    [ "ttyS0",        "c", 4,   64 ],
    [ "uinput",       "c", 10,  223 ],
    [ "userfaultfd",  "c", 10,  126 ],
    [ "vcs",          "c", 7,   0 ],
    [ "vcsu",         "c", 7,   64 ],
    [ "vga_arbiter",  "c", 10,  63 ],
    [ "vhost-net",    "c", 10,  238 ],
    [ "vsock",        "c", 10,  121 ],
    [ "zram0",        "b", 251, 0 ],
);

# A console is written to, the others are read; neither waits.
sub opens { my ($path) = @_; return sysopen my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY }

group("devices");
for my $device (@devices) {
    my ( $name, $kind, $major, $minor ) = @$device;
    ( $kind, $major, $minor ) = split /:/, $arg{"device $name"} if $arg{"device $name"};
    probe( "device $name", "opens /dev/$name", sub {
        # A terminal of its own file system is another one.
        my $own = $name eq "ptmx" && !$arg{unconfined} && -l "/dev/ptmx";
        return harmless("of a file system of its own") if $own && opens("/dev/ptmx");
        return judge( opens("/dev/$name") );
    } );
    probe( "new device $name", "makes a node $kind $major:$minor, and opens it", sub {
        my $node = scratch() . "/node";
        my $mode = $kind eq "b" ? 060666 : 020666;
        my $numbers = ( $major & 0xfff ) << 8 | $minor & 0xff | ( $minor & ~0xff ) << 12;
        works( "mknodat", -100, $node, $mode, $numbers ) or return refused();
        return judge( opens($node) );
    } );
}
probe( "new device of the disk", "makes a node of the disk that has the caller's files, and opens it", sub {
    my $node = scratch() . "/node";
    works( "mknodat", -100, $node, 060666, $arg{major} << 8 | $arg{minor} ) or return refused();
    return judge( opens($node) );
} );
probe( "new device in /dev", "makes a node of the kernel's log in /dev", sub {
    my $node = "/dev/probe-$arg{run}-$$";
    works( "mknodat", -100, $node, 020666, 1 << 8 | 11 ) or return refused();
    my $opened = opens($node);
    unlink $node;
    return judge($opened);
} );

group("what devices do");
sub control {
    my ( $path, $flags, $request, $argument ) = @_;
    sysopen my $file, $path, $flags | O_NONBLOCK | O_NOCTTY or return refused();
    return judge( defined ioctl $file, $request, $argument );
}
probe( "entropy", "says that the machine has gained randomness",
    sub { control( "/dev/random", O_RDWR, 0x40045201, pack "i", 0 ) } );
probe( "entropy cleared", "has the machine forget its randomness",
    sub { control( "/dev/random", O_RDWR, 0x5206, 0 ) } );
probe( "virtual machine", "makes one (KVM_CREATE_VM)", sub { control( "/dev/kvm", O_RDWR, 0xae01, 0 ) } );
probe( "loop device", "asks for a free one", sub { control( "/dev/loop-control", O_RDWR, 0x4c82, 0 ) } );
probe( "tun device", "makes a network interface",
    sub { control( "/dev/net/tun", O_RDWR, 0x400454ca, pack "a16S x22", "probe0", 2 ) } );
probe( "immutable file", "makes a file that nobody can remove, the builder included", sub {
    my $path = scratch() . "/file";
    open my $file, ">", $path or return refused();
    my $flags = pack "L", 0x10;
    return refused() unless defined ioctl $file, 0x40086602, $flags;
    $flags = pack "L", 0;
    ioctl $file, 0x40086602, $flags;
    return reached();
} );
probe( "file system thawed", "thaws the file system of / (FITHAW)", sub {
    opendir my $root, "/" or return refused();
    sysopen my $file, "/", O_RDONLY or return refused();
    my $may = defined ioctl( $file, 0xc0045878, 0 ) || $! == POSIX::EINVAL();
    return harmless("a file system in memory, of its own user namespace") if $may && $arg{mounts} && !in_host("user");
    return judge($may);
} );
probe( "file system trimmed", "has the disk forget free space (FITRIM)", sub {
    sysopen my $file, "/", O_RDONLY or return refused();
    my $range = pack "QQQ", 0, 0, 0;
    return reached() if defined ioctl $file, 0xc0185879, $range;
    return judge( $! == POSIX::EINVAL() || $! == POSIX::EOPNOTSUPP() );
} );

group("the caller's terminal");
sub on_terminal {
    my ( $request, $argument ) = @_;
    my @found;
    if ( sysopen my $file, "/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY ) { push @found, $file }
    for my $number ( 0 .. 255 ) {
        open my $file, "<&=", $number or next;
        push @found, $file if -t $file;
    }
    $! = POSIX::ENXIO() unless @found;
    for my $file (@found) {
        return reached() if defined ioctl $file, $request, $argument;
    }
    return refused();
}
probe( "terminal", "opens the terminal that controls the caller's session", sub {
    sysopen my $file, "/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY or return refused();
    return reached();
} );
probe( "terminals", "opens what it was left with that is a terminal",
    sub { judge( scalar grep { -t $_ } map { my $f; open( $f, "<&=", $_ ) ? $f : () } 0 .. 255 ) } );
probe( "typing", "types into the terminal (TIOCSTI)", sub { on_terminal( 0x5412, "\0" ) } );
probe( "selection", "types by the selection (TIOCLINUX)", sub { on_terminal( 0x541c, pack "C", 6 ) } );
probe( "terminal's settings", "reads how the terminal is set", sub { on_terminal( 0x5401, "\0" x 64 ) } );
probe( "terminal's size", "changes its size", sub {
    sysopen my $file, "/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY or return refused();
    my $size = "\0" x 8;
    ioctl $file, 0x5413, $size or return refused();
    return judge( defined ioctl $file, 0x5414, $size );
} );
probe( "terminal's group", "asks which group of processes has the terminal", sub { on_terminal( 0x540f, "\0" x 4 ) } );
probe( "terminal hung up", "hangs the terminal up (vhangup)", sub {
    POSIX::setsid();
    return looked_at("vhangup");
}, "vhangup" );
probe( "pseudo terminals", "opens those of the machine", sub {
    return harmless("of a file system of its own") if !$arg{unconfined} && !-e $arg{pts};
    return judge( writable( $arg{pts} ) );
} );

1;
