# Mounts: of the kernel's file systems, of what is hidden, by the old and the new calls; ways out of a root directory.
use strict;
use warnings;
use Fcntl;

our ( %arg, $first );
my ( $rdonly, $remount, $bind, $move, $rec, $shared ) = ( 1, 32, 4096, 8192, 16384, 1 << 20 );
my $allowed = "mmdebstrap makes a root directory: it may mount, but only what its own namespaces hold";

# A mount that worked. `outside`: whether what is mounted now leads to the machine.
sub judge_mount {
    my ( $works, $outside, $detail ) = @_;
    return refused() unless $works;
    return reached($detail) if $outside || !$arg{mounts};
    return harmless($allowed);
}

sub mounts_at {
    my ( $kind, $options ) = @_;
    own_mounts();
    my $at = scratch();
    return works( "mount", "none", $at, $kind, 0, defined $options ? $options : 0 ) ? $at : "";
}

# In a user namespace, every mount of these is another one, which has nothing of the machine's.
my %own = map { $_ => 1 } qw(devpts binfmt_misc);

group("mounts");
for my $kind (
    [ "tmpfs", "", "" ],
    [ "ramfs", "", "" ],
    [ "proc", "sys/kernel/core_pattern", "the machine's parameters" ],
    [ "sysfs", "kernel/uevent_helper", "the machine's devices" ],
    [ "cgroup2", "cgroup.procs", "the machine's control groups" ],
    [ "devtmpfs", "kmsg", "the machine's devices" ],
    [ "devpts", "ptmx", "the machine's terminals" ],
    [ "mqueue", $arg{mq}, "the machine's message queues" ],
    [ "debugfs", "", "the kernel's insides" ],
    [ "tracefs", "", "the kernel's insides" ],
    [ "securityfs", "", "the machine's security modules" ],
    [ "bpf", "", "BPF programs" ],
    [ "binfmt_misc", "register", "the machine's interpreters" ],
    [ "configfs", "", "kernel objects" ],
    [ "fusectl", "", "connections of FUSE" ],
    [ "hugetlbfs", "", "the machine's huge pages" ],
    [ "pstore", "", "the kernel's last words" ],
    )
{
    my ( $name, $file, $what ) = @$kind;
    probe( "mount $name", "mounts $name" . ( $what ? ": $what" : "" ), sub {
        my $at = mounts_at($name) or return refused();
        return judge_mount( 1, length $file && writable("$at/$file") && !( $arg{mounts} && $own{$name} ), "$name is mounted" );
    }, "mount" );
}
probe( "mount cgroup v1", "mounts a hierarchy of control groups, and opens release_agent", sub {
    for my $name (qw(devices freezer pids cpu memory none)) {
        my $at = mounts_at( "cgroup", $name eq "none" ? "none,name=systemd" : $name ) or next;
        return judge_mount( 1, writable("$at/release_agent"), "$name is mounted" );
    }
    return refused();
}, "mount" );
probe( "mount overlay", "mounts an overlay over /", sub {
    my @at = map { scratch() } 1 .. 3;
    own_mounts();
    works( "mount", "none", $at[2], "tmpfs", 0, 0 ) or return refused();
    mkdir "$at[2]/$_" for qw(upper work);
    my $options = "lowerdir=/,upperdir=$at[2]/upper,workdir=$at[2]/work";
    return judge_mount( works( "mount", "overlay", $at[0], "overlay", 0, $options ) );
}, "mount" );
probe( "mount the disk", "makes a node for the machine's disk, and mounts it", sub {
    own_mounts();
    my $node = scratch() . "/disk";
    works( "mknodat", -100, $node, 060600, $arg{major} << 8 | $arg{minor} ) or return refused();
    my $at = scratch();
    for my $kind (qw(ext4 xfs btrfs)) {
        return judge_mount( 1, 1, $kind ) if works( "mount", $node, $at, $kind, $rdonly, 0 );
    }
    return refused();
} );
probe( "bind", "mounts / at another place",
    sub { own_mounts(); judge_mount( works( "mount", "/", scratch(), 0, $bind | $rec, 0 ) ) }, "mount" );
probe( "uncover", "mounts / without what is mounted below, to see what is hidden", sub {
    own_mounts();
    my $at = scratch();
    works( "mount", "/", $at, 0, $bind, 0 ) or return refused();
    return judge_mount( 1, has_secret( content("$at$arg{file}") ), "secret" );
}, "mount" );
probe( "remount", "makes /proc/sys writable", sub {
    own_mounts();
    works( "mount", "none", "/proc/sys", 0, $bind | $remount, 0 )
        or works( "mount", "none", "/proc", 0, $remount, 0 )
        or return refused();
    return judge_mount( 1, writable("/proc/sys/kernel/core_pattern") );
}, "mount" );
probe( "move a mount", "moves /proc away",
    sub { own_mounts(); judge_mount( works( "mount", "/proc", scratch(), 0, $move, 0 ) ) }, "mount" );
probe( "shared mounts", "has what it mounts seen by others", sub {
    own_mounts();
    return judge_mount( works( "mount", "none", "/", 0, $shared | $rec, 0 ) );
}, "mount" );
probe( "unmount /proc", "takes /proc away, to see what is below",
    sub { own_mounts(); judge_mount( works( "umount2", "/proc", 2 ) ) }, "umount2" );
probe( "unmount a mask", "takes away what hides a file of /proc, and reads it", sub {
    own_mounts();
    for my $name (qw(kcore keys sys timer_list)) {
        works( "mount", "/dev/null", "/proc/$name", 0, $bind, 0 ) if $arg{unconfined};
        return judge_mount( 1, length( content("/proc/$name") || "" ), $name ) if works( "umount2", "/proc/$name", 2 );
    }
    return refused();
}, "umount2" );
probe( "unmount /", "takes the root directory away, to get to the one before", sub {
    own_mounts();
    works( "umount2", "/", 2 ) or return refused();
    return judge_mount( 1, has_secret( content( $arg{file} ) ) );
}, "umount2" );
probe( "pivot_root", "makes another directory the root, and goes up from the old one", sub {
    own_mounts();
    my $at = scratch();
    works( "mount", "none", $at, "tmpfs", 0, 0 ) or return refused();
    mkdir "$at/old";
    works( "pivot_root", $at, "$at/old" ) or return refused();
    chdir "/old";
    return judge_mount( 1, has_secret( content( ( "../" x 20 ) . $arg{file} ) ) || has_secret( content("/old$arg{file}") ) );
}, "pivot_root" );

group("mounts by the new calls");
sub opened { my ($found) = @_; return defined $found && $found != -1 ? $found + 0 : undef }
for my $kind (qw(tmpfs proc sysfs cgroup2 ext4)) {
    probe( "fsopen $kind", "begins to mount $kind", sub {
        my ($found) = call( "fsopen", $kind, 0 );
        return judge_mount( defined opened($found) );
    }, "fsopen" );
}
probe( "fsconfig", "makes a tmpfs, step by step", sub {
    my $context = opened( ( call( "fsopen", "tmpfs", 0 ) )[0] );
    $context = 0 unless defined $context;
    return judge_mount( works( "fsconfig", $context, 6, 0, 0, 0 ) );
}, "fsconfig" );
probe( "fsmount", "makes a mount of a tmpfs", sub {
    my $context = opened( ( call( "fsopen", "tmpfs", 0 ) )[0] );
    if ( defined $context ) { works( "fsconfig", $context, 6, 0, 0, 0 ) or return refused() }
    return judge_mount( works( "fsmount", defined $context ? $context : 0, 0, 0 ) );
}, "fsmount" );
probe( "fspick", "takes the mount of / to change it",
    sub { judge_mount( works( "fspick", -100, "/", 0 ) ) }, "fspick" );
probe( "open_tree", "makes a copy of the mounts below /",
    sub { judge_mount( works( "open_tree", -100, "/", 0x8001 ) ) }, "open_tree" );
probe( "open_tree of process 1", "makes a copy of the mounts of process 1",
    sub { my ($found) = call( "open_tree", -100, "/proc/$first/root/", 0x8001 ); judge( defined opened($found) ) }, "open_tree" );
probe( "move_mount", "mounts a copy of / elsewhere", sub {
    own_mounts();
    my $tree = opened( ( call( "open_tree", -100, "/", 1 ) )[0] );
    return judge_mount( works( "move_mount", defined $tree ? $tree : -1, "", -100, scratch(), 4 ) );
}, "move_mount" );
probe( "mount_setattr", "makes mounts writable", sub {
    own_mounts();
    my $attributes = pack "Q4", 0, 1, 0, 0;
    return judge_mount( works( "mount_setattr", -100, "/proc", 0, $attributes, 32 ) );
}, "mount_setattr" );
probe( "mount_setattr with ids", "shows / with other owners (idmapped mount)", sub {
    own_mounts();
    sysopen my $file, "/proc/self/ns/user", O_RDONLY or return refused();
    my $attributes = pack "Q4", 0x00100000, 0, 0, fileno $file;
    my ( $result, $error ) = call( "mount_setattr", -100, "/", 0, $attributes, 32 );
    return judge_mount( $result != -1 || $error == POSIX::EINVAL() );
}, "mount_setattr" );

group("mounts: what they say");
for my $name (qw(mountinfo mounts mountstats)) {
    probe( "host paths in $name", "looks for paths of the machine in its own $name", sub {
        my $text = content("/proc/self/$name");
        return refused() unless defined $text;
        return judge( index( $text, $arg{home} ) >= 0, "it names $arg{home}" );
    } );
    probe( "host paths in any $name", "looks for paths of the machine in the $name of every process that is seen",
        sub { judge( scalar grep { index( content("/proc/$_/$name") || "", $arg{home} ) >= 0 } processes() ) } );
}
probe( "statmount", "asks the kernel for mounts by their numbers", sub {
    my $request = pack "LLQQQ", 32, 0, ~0, 0, 0;
    my $room = "\0" x 8192;
    my ($count) = call( "listmount", $request, $room, 512, 0 );
    return refused() unless defined $count && $count > 0;
    for my $number ( unpack "Q$count", $room ) {
        my $one = pack "LLQQQ", 32, 0, $number, 0x1f, 0;
        my $answer = "\0" x 4096;
        next unless works( "statmount", $one, $answer, 4096, 0 );
        return reached("it names $arg{home}") if index( $answer, $arg{home} ) >= 0;
    }
    return harmless("what it lists are the mounts of its own root directory");
} );
probe( "control group", "reads which control group of the machine it is in", sub {
    my @paths = map { ( split /:/, $_, 3 )[2] } split /\n/, content("/proc/self/cgroup") || "";
    return judge( scalar grep { defined && !m{^/(\.\.)?$} } @paths );
} );

group("ways out of a root directory");
probe( "chroot and ..", "leaves a chroot by a directory that stays open", sub {
    own_mounts();
    my $inner = scratch();
    opendir my $keep, "/" or return refused();
    chroot $inner or return refused();
    chdir $keep or return refused();
    chdir ".." for 1 .. 40;
    chroot "." or return refused();
    return judge( has_secret( content( $arg{file} ) ), "secret" );
} );
probe( "chroot, and writing", "leaves it in the same way, and writes", sub {
    my $inner = scratch();
    opendir my $keep, "/" or return refused();
    chroot $inner or return refused();
    chdir $keep or return refused();
    chdir ".." for 1 .. 40;
    chroot "." or return refused();
    return judge( writable( $arg{target} ) );
} );
probe( "chroot into process 1", "has the root directory of process 1", sub {
    chroot "/proc/$first/root" or return refused();
    return judge( has_secret( content( $arg{file} ) ), "secret" );
} );
probe( "chroot without chdir", "goes up from a directory outside of its root", sub {
    chdir "/";
    chroot scratch() or return refused();
    return judge( has_secret( content( ( "../" x 20 ) . $arg{file} ) ), "secret" );
} );

1;
