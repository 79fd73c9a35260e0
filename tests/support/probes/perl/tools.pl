# What probes are made of: their table, their outcomes, system calls by number.
use strict;
use warnings;
use Fcntl;
use Socket;

our ( %arg, @probes );
my $group = "";

# Unconfined, the machine's process 1 is left alone: the caller's stands for it.
our $first = $arg{unconfined} ? $arg{pid} + 0 : 1;

# x86_64, aarch64 (-1: it has no such call)
our %number = (
    acct                    => [ 163, 89 ],
    add_key                 => [ 248, 217 ],
    adjtimex                => [ 159, 171 ],
    bpf                     => [ 321, 280 ],
    clock_adjtime           => [ 305, 266 ],
    clock_gettime           => [ 228, 113 ],
    clock_settime           => [ 227, 112 ],
    clone                   => [ 56,  220 ],
    clone3                  => [ 435, 435 ],
    create_module           => [ 174, -1 ],
    delete_module           => [ 176, 106 ],
    fanotify_init           => [ 300, 262 ],
    fchdir                  => [ 81,  50 ],
    finit_module            => [ 313, 273 ],
    fsconfig                => [ 431, 431 ],
    fsmount                 => [ 432, 432 ],
    fsopen                  => [ 430, 430 ],
    fspick                  => [ 433, 433 ],
    get_robust_list         => [ 274, 100 ],
    init_module             => [ 175, 105 ],
    inotify_add_watch       => [ 254, 27 ],
    inotify_init1           => [ 294, 26 ],
    io_uring_enter          => [ 426, 426 ],
    io_uring_register       => [ 427, 427 ],
    io_uring_setup          => [ 425, 425 ],
    ioperm                  => [ 173, -1 ],
    iopl                    => [ 172, -1 ],
    ioprio_set              => [ 251, 30 ],
    kcmp                    => [ 312, 272 ],
    kexec_file_load         => [ 320, 294 ],
    kexec_load              => [ 246, 104 ],
    keyctl                  => [ 250, 219 ],
    landlock_create_ruleset => [ 444, 444 ],
    listmount               => [ 458, 458 ],
    lookup_dcookie          => [ 212, 18 ],
    migrate_pages           => [ 256, 238 ],
    mknodat                 => [ 259, 33 ],
    modify_ldt              => [ 154, -1 ],
    mount                   => [ 165, 40 ],
    mount_setattr           => [ 442, 442 ],
    move_mount              => [ 429, 429 ],
    move_pages              => [ 279, 239 ],
    mq_open                 => [ 240, 180 ],
    name_to_handle_at       => [ 303, 264 ],
    nfsservctl              => [ 180, 42 ],
    open_by_handle_at       => [ 304, 265 ],
    open_tree               => [ 428, 428 ],
    perf_event_open         => [ 298, 241 ],
    personality             => [ 135, 92 ],
    pidfd_getfd             => [ 438, 438 ],
    pidfd_open              => [ 434, 434 ],
    pidfd_send_signal       => [ 424, 424 ],
    pivot_root              => [ 155, 41 ],
    prlimit64               => [ 302, 261 ],
    process_madvise         => [ 440, 440 ],
    process_vm_readv        => [ 310, 270 ],
    process_vm_writev       => [ 311, 271 ],
    ptrace                  => [ 101, 117 ],
    quotactl                => [ 179, 60 ],
    quotactl_fd             => [ 443, 443 ],
    reboot                  => [ 169, 142 ],
    request_key             => [ 249, 218 ],
    rt_sigqueueinfo         => [ 129, 138 ],
    sched_getaffinity       => [ 204, 123 ],
    sched_setaffinity       => [ 203, 122 ],
    sched_setattr           => [ 314, 274 ],
    sched_setscheduler      => [ 144, 119 ],
    seccomp                 => [ 317, 277 ],
    setdomainname           => [ 171, 162 ],
    sethostname             => [ 170, 161 ],
    setns                   => [ 308, 268 ],
    settimeofday            => [ 164, 170 ],
    setxattr                => [ 188, 5 ],
    statmount               => [ 457, 457 ],
    swapoff                 => [ 168, 225 ],
    swapon                  => [ 167, 224 ],
    syslog                  => [ 103, 116 ],
    tgkill                  => [ 234, 131 ],
    umount2                 => [ 166, 39 ],
    unshare                 => [ 272, 97 ],
    userfaultfd             => [ 323, 282 ],
    uselib                  => [ 134, -1 ],
    vhangup                 => [ 153, 58 ],
);
my $arm = ( POSIX::uname() )[4] eq "aarch64" ? 1 : 0;

# -- the table ------------------------------------------------------------------

sub group { ($group) = @_ }

# name, what it tries, the try. The system call that it stands and falls with is named where there is one.
sub probe {
    my ( $name, $what, $try, $call ) = @_;
    push @probes, [ $group, $name, $what, $call || "", $try ];
}

# A system call that is reached if the kernel gets as far as to look at the arguments.
sub probe_call {
    my ( $name, $what, $call, @arguments ) = @_;
    probe( $name, $what, sub { looked_at( $call, @arguments ) }, $call );
}

# -- outcomes -------------------------------------------------------------------

sub reached  { return [ "reached",  $_[0] || "it worked" ] }
sub harmless { return [ "harmless", $_[0] ] }
sub absent   { return [ "absent",   $_[0] ] }
sub refused  { return [ "refused",  $_[0] || "$!" ] }

# A truth: reached, else refused.
sub judge { my ( $true, $detail ) = @_; return $true ? reached($detail) : refused() }

sub looked_at {
    my ( $result, $error ) = &call;
    return absent("this machine has no such call") unless defined $result;
    return refused() if $result == -1 && grep { $error == $_ } POSIX::EPERM(), POSIX::EACCES(), POSIX::ENOSYS();
    return reached( $result == -1 ? "the kernel looked at the arguments: $!" : "it worked" );
}

# -- calls ----------------------------------------------------------------------

# (result, error's number), the result undef where the machine has no such call. Numbers are numbers, all else is memory.
sub call {
    my ( $name, @arguments ) = @_;
    my $which = $number{$name}[$arm];
    return ( undef, 0 ) if $which == -1;
    $! = 0;
    my $result = syscall $which, @arguments;
    my $error = $result == -1 ? $! + 0 : 0;
    # What the kernel has written goes to the caller's own variables.
    for my $place ( 0 .. $#arguments ) {
        my $own = \$_[ $place + 1 ];
        $$own = $arguments[$place] if !Internals::SvREADONLY($$own) && $$own ne $arguments[$place];
    }
    $! = $error;
    return ( $result, $error );
}

sub works { my ($result) = &call; return defined $result && $result != -1 }

# -- files ----------------------------------------------------------------------

sub content {
    my ($path) = @_;
    sysopen my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY or return undef;
    my $text = "";
    while ( length $text < 4_000_000 ) {
        my $read = sysread $file, my $piece, 65536;
        last unless $read;
        $text .= $piece;
    }
    return $text;
}

sub writable { my ($path) = @_; return sysopen my $file, $path, O_WRONLY | O_NONBLOCK | O_NOCTTY }

# The secret is said backwards: this script's own arguments are not to be taken for it.
my $secret = reverse $arg{secret};

sub has_secret { my ($text) = @_; return defined $text && index( $text, $secret ) >= 0 }

sub reads_secret { my ($path) = @_; return judge( has_secret( content($path) ), "it read the secret" ) }

my $count = 0;

# A new directory for a probe; one that is there where none can be made. Unconfined, arguments say where: it is to go with the run.
sub scratch {
    my $path = ( $arg{scratch} || "/tmp" ) . "/probe-$arg{run}-$$-" . $count++;
    return mkdir($path) ? $path : "/mnt";
}

# -- namespaces and processes ----------------------------------------------------

# Where there is no /proc: whether the caller's process and server are there.
my %seen = (
    pid => sub { return kill( 0, $arg{pid} ) || $! == POSIX::EPERM() },
    net => sub {
        socket my $socket, PF_INET, SOCK_STREAM, 0 or return 1;
        return connect $socket, pack_sockaddr_in( $arg{port}, INADDR_LOOPBACK );
    },
);

# Whether this process has the machine's own namespace of a kind. Where nothing says so, it is taken to have.
sub in_host {
    my ($kind) = @_;
    my $own = readlink "/proc/self/ns/$kind";
    return $own eq $arg{"ns_$kind"} if defined $own;
    return $seen{$kind} ? $seen{$kind}->() : 1;
}

# It worked: reached in the machine's own namespace of a kind, else harmless.
sub judge_namespace {
    my ( $kind, $works, $why ) = @_;
    return refused() unless $works;
    return in_host($kind) ? reached("in the machine's own namespace ($kind)") : harmless($why);
}

# Where mounts can be made, they are to be the probe's own: also where a sandbox fails that should have refused them.
sub own_mounts {
    if ( !works( "unshare", 0x20000 ) ) {
        die "unshare: $!" if $arg{unconfined} || $arg{mounts};
        return;
    }
    # In a chroot, / is no mount: what is above is private already.
    works( "mount", "none", "/", 0, 0x44000, 0 ) or !$arg{unconfined} or die "making mounts private: $!";
}

sub processes {
    opendir my $proc, "/proc" or return ();
    return sort { $a <=> $b } grep { /^\d+$/ } readdir $proc;
}

1;
