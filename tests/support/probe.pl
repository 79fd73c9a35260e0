# Tries to reach the machine out of a sandbox. Prints a line for each try: "held NAME" or "reached NAME".
# Arguments: NAME=VALUE, see tests/support/probes.py. Perl without modules but its core's is in every Debian root.
use strict;
use warnings;
use Socket;
use Fcntl;
use POSIX ();

my %arg = map { split /=/, $_, 2 } @ARGV;
$| = 1;

# x86_64, aarch64
my %number = (
    bpf             => [ 321, 280 ],
    clock_settime   => [ 227, 112 ],
    init_module     => [ 175, 105 ],
    io_uring_setup  => [ 425, 425 ],
    kexec_load      => [ 246, 104 ],
    keyctl          => [ 250, 219 ],
    perf_event_open => [ 298, 241 ],
    reboot          => [ 169, 142 ],
    sethostname     => [ 170, 161 ],
    setns           => [ 308, 268 ],
    swapon          => [ 167, 224 ],
    syslog          => [ 103, 116 ],
    unshare         => [ 272, 97 ],
    userfaultfd     => [ 323, 282 ],
);
my $arm = ( POSIX::uname() )[4] eq "aarch64" ? 1 : 0;

# What a system call gives: its result, and the name of its error.
sub try_call {
    my ( $name, @arguments ) = @_;
    $! = 0;
    my $result = syscall $number{$name}[$arm], @arguments;
    return ( $result, $result == -1 ? $! + 0 : 0 );
}

# Whether the kernel got as far as to look at the arguments.
sub looked_at {
    my ( $result, $error ) = try_call(@_);
    return $result != -1 || ( $error != POSIX::EPERM && $error != POSIX::ENOSYS );
}

sub content {
    my ($path) = @_;
    open my $file, "<", $path or return "";
    local $/;
    my $text = <$file>;
    return defined $text ? $text : "";
}

sub writable {
    my ($path) = @_;
    return sysopen my $file, $path, O_WRONLY;
}

# The secret is said backwards: this script's own arguments are not to be taken for it.
my $secret = reverse $arg{secret};

sub has_secret {
    my ($text) = @_;
    return index( $text, $secret ) >= 0;
}

sub processes {
    opendir my $proc, "/proc" or return ();
    return grep { /^\d+$/ } readdir $proc;
}

sub connects {
    my ( $domain, $type, $address ) = @_;
    socket my $socket, $domain, $type, 0 or return 0;
    return connect $socket, $address;
}

# Unconfined, a test runs those alone that change nothing.
my %harmful = map { $_ => 1 } ("clock", "modules", "reboot", "swap", "kexec", "priority", "namespace of a process");

my $scratch = "/tmp/probe-$$";
mkdir $scratch;

my @probes = (
    [ "file by path", sub { has_secret( content $arg{file} ) } ],
    [ "file through a process's root", sub { has_secret( content "/proc/$arg{pid}/root$arg{file}" ) } ],
    [ "file through any process's root", sub { grep { has_secret( content "/proc/$_/root$arg{file}" ) } processes() } ],
    [ "file through any process's directory",
        sub { grep { has_secret( content "/proc/$_/cwd/" . ( "../" x 20 ) . $arg{file} ) } processes() } ],
    [ "writing by path", sub { writable $arg{target} } ],
    [ "writing through any process's root", sub { grep { writable "/proc/$_/root$arg{target}" } processes() } ],
    [ "environment of a process", sub { has_secret( content "/proc/$arg{pid}/environ" ) } ],
    [ "environment of any process", sub { grep { has_secret( content "/proc/$_/environ" ) } processes() } ],
    [ "arguments of any process", sub { grep { has_secret( content "/proc/$_/cmdline" ) } grep { $_ != $$ } processes() } ],
    [ "environment of its own", sub { grep { has_secret($_) } values %ENV } ],
    [ "descriptors of any process",
        sub { grep { has_secret( content $_ ) } grep { -f } map { glob "/proc/$_/fd/*" } grep { $_ != $$ } processes() } ],
    [ "inherited descriptors",
        sub { grep { my $to = readlink "/proc/self/fd/$_"; defined $to && index( $to, $arg{file} ) == 0 } 0 .. 255 } ],
    [ "loopback TCP", sub { connects PF_INET, SOCK_STREAM, pack_sockaddr_in( $arg{port}, INADDR_LOOPBACK ) } ],
    [ "route to a network", sub { connects PF_INET, SOCK_DGRAM, pack_sockaddr_in( 9, inet_aton "192.0.2.1" ) } ],
    [ "abstract socket", sub { connects PF_UNIX, SOCK_STREAM, pack( "Sa*", PF_UNIX, "\0$arg{socket}" ) } ],
    [ "shared memory", sub { defined shmget $arg{shm}, 1, 0 } ],
    [ "key", sub { my $room = "\0" x 64; ( try_call "keyctl", 11, $arg{key} + 0, $room, 64 )[0] > 0 } ],
    [ "session keyring", sub { index( content("/proc/keys"), "opam-oci-probe" ) >= 0 } ],
    [ "clock", sub { my ( $s, $u ) = ( time, 0 ); ( try_call "clock_settime", 0, pack( "qq", $s, $u ) )[0] == 0 } ],
    # A namespace may have a name of its own: whether the machine's has changed, its owner sees.
    [ "host name", sub { try_call "sethostname", "reached-by-probe", 16 if !$arg{harmless}; 0 } ],
    [ "namespace of a process", sub {
        open my $file, "<", "/proc/$arg{pid}/ns/net" or return 0;
        return ( try_call "setns", fileno($file), 0 )[0] == 0;
    } ],
    [ "device", sub {
        system "mknod", "$scratch/device", "b", $arg{major}, $arg{minor} and return 0;
        return sysopen my $file, "$scratch/device", O_RDONLY;
    } ],
    [ "core_pattern", sub { writable "/proc/sys/kernel/core_pattern" } ],
    [ "drop_caches", sub { writable "/proc/sys/vm/drop_caches" } ],
    [ "sysrq-trigger", sub { writable "/proc/sysrq-trigger" } ],
    [ "uevent_helper", sub { writable "/sys/kernel/uevent_helper" } ],
    [ "core_pattern of a proc of its own", sub {
        mkdir "$scratch/proc";
        system "mount -t proc proc $scratch/proc 2>/dev/null" and return 0;
        return writable "$scratch/proc/sys/kernel/core_pattern";
    } ],
    [ "control groups", sub {
        mkdir "$scratch/group";
        system "mount -t cgroup2 none $scratch/group 2>/dev/null" and return 0;
        return writable "$scratch/group/cgroup.procs";
    } ],
    [ "kernel's log", sub { my $room = "\0" x 4096; ( try_call "syslog", 3, $room, 4096 )[0] > 0 } ],
    [ "modules", sub { looked_at "init_module", 0, 0, 0 } ],
    [ "reboot", sub { looked_at "reboot", 1, 2, 3, 0 } ],
    [ "swap", sub { looked_at "swapon", 0, 0 } ],
    [ "kexec", sub { looked_at "kexec_load", 0, 17, 0, 1 << 30 } ],
    [ "bpf", sub { looked_at "bpf", 99, 0, 0 } ],
    [ "performance counters", sub { looked_at "perf_event_open", 0, 0, 0, 0, 0 } ],
    [ "userfaultfd", sub { looked_at "userfaultfd", 1 } ],
    [ "io_uring", sub { looked_at "io_uring_setup", 0, 0 } ],
    [ "vsock", sub { socket my $socket, 40, SOCK_STREAM, 0 } ],
    [ "raw packets", sub { socket my $socket, 17, SOCK_RAW, 0 } ],
    [ "a user namespace of its own", sub { ( try_call "unshare", 0x10000000 )[0] == 0 } ],
    [ "priority", sub { eval { setpriority 0, 0, -20 } } ],
    # Last: from here on, other paths mean other things.
    [ "file after leaving a chroot", sub {
        mkdir "$scratch/inner";
        opendir my $keep, "/" or return 0;
        chroot "$scratch/inner" or return 0;
        chdir $keep or return 0;
        chdir ".." for 1 .. 40;
        chroot "." or return 0;
        return has_secret( content $arg{file} ) || has_secret( content "/etc/shadow" );
    } ],
    [ "writing after leaving a chroot", sub { writable $arg{target} } ],
    [ "root's home after leaving a chroot", sub { opendir my $home, "/root" or return 0; grep { !/^\./ } readdir $home } ],
);

for my $probe (@probes) {
    my ( $name, $try ) = @$probe;
    next if $arg{harmless} && $harmful{$name};
    my $reached = () = eval { grep { $_ } $try->() };
    print $reached ? "reached $name\n" : "held $name\n";
}
