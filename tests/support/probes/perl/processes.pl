# Processes outside: the caller's witness, and process 1, which in a sandbox is the tool's own.
use strict;
use warnings;
use Fcntl;

our ( %arg, $first );

# The kernel looked at an address: then it has let this process near that memory.
sub judge_address {
    my ( $result, $error ) = @_;
    return absent("this machine has no such call") unless defined $result;
    return judge( $result != -1 || $error == POSIX::EFAULT() || $error == POSIX::EIO() );
}

# In a PID namespace of its own a number names another process, or none.
sub of_caller {
    my ($found) = @_;
    return $found if $found->[0] ne "reached" || in_host("pid");
    return harmless("the number is that of a process of its own namespace");
}

sub memory_call {
    my ( $name, $pid ) = @_;
    my $room = "\0" x 8;
    my $local  = pack( "P", $room ) . pack( "Q", 1 );
    my $remote = pack( "QQ", 1, 1 );
    return judge_address( call( $name, $pid, $local, 1, $remote, 1, 0 ) );
}

sub handle { my ($pid) = @_; my ($result) = call( "pidfd_open", $pid, 0 ); return $result }

my %signals = ( URG => 23 );    # ignored by whoever does not ask for it

for my $of ( [ "process 1", $first ], [ "the caller", $arg{pid} + 0 ] ) {
    my ( $who, $pid ) = @$of;
    my $proc = "/proc/$pid";
    group("processes: $who");
    my $caller = $who ne "process 1";
    my $add = sub {
        my ( $name, $what, $try, $call ) = @_;
        probe( "$name of $who", $what, sub { my $found = $try->(); $caller ? of_caller($found) : $found }, $call );
    };
    $add->( "environment", "reads its environment", sub { judge( length( content("$proc/environ") || "" ) ) } );
    $add->( "memory", "opens its memory for reading",
        sub { sysopen my $file, "$proc/mem", O_RDONLY or return refused(); reached() } );
    $add->( "memory's change", "opens its memory for writing", sub { judge( writable("$proc/mem") ) } );
    $add->( "memory's map", "reads where its memory lies", sub { judge( length( content("$proc/maps") || "" ) ) } );
    $add->( "auxiliary vector", "reads its auxiliary vector", sub { judge( length( content("$proc/auxv") || "" ) ) } );
    $add->( "kernel stack", "reads its stack in the kernel", sub { judge( length( content("$proc/stack") || "" ) ) } );
    $add->( "system call", "reads which system call it is in",
        sub { judge( length( content("$proc/syscall") || "" ) ) } );
    $add->( "input and output", "reads its counts of bytes", sub { judge( length( content("$proc/io") || "" ) ) } );
    $add->( "descriptors", "looks what it has open",
        sub { judge( scalar grep { defined readlink $_ } glob "$proc/fd/*" ) } );
    $add->( "root", "opens its root directory",
        sub { opendir my $directory, "$proc/root/" or return refused(); reached() } );
    $add->( "working directory", "opens its working directory",
        sub { opendir my $directory, "$proc/cwd/" or return refused(); reached() } );
    $add->( "mapped files", "lists the files that it has mapped",
        sub { judge( scalar grep { defined readlink $_ } glob "$proc/map_files/*" ) } );
    $add->( "core filter", "changes what its core dump holds", sub {
        return refused() unless writable("$proc/coredump_filter");
        return judge_namespace( "pid", 1, "it says what a core dump of the tool would hold, and nothing else" );
    } );
    $add->( "trace", "traces it (PTRACE_SEIZE)", sub { judge( works( "ptrace", 0x4206, $pid, 0, 0 ) ) }, "ptrace" );
    $add->( "process_vm_readv", "copies out of its memory",
        sub { memory_call( "process_vm_readv", $pid ) }, "process_vm_readv" );
    $add->( "process_vm_writev", "copies into its memory",
        sub { memory_call( "process_vm_writev", $pid ) }, "process_vm_writev" );
    $add->( "pidfd_getfd", "takes a descriptor of it", sub {
        my $handle = handle($pid);
        return refused() if !defined $handle || $handle == -1;
        my ( $result, $error ) = call( "pidfd_getfd", $handle + 0, 0, 0 );
        return judge( $result != -1 || $error == POSIX::EBADF() );
    }, "pidfd_getfd" );
    $add->( "kcmp", "compares its memory with its own", sub { judge( works( "kcmp", $$, $pid, 1, 0, 0 ) ) }, "kcmp" );
    $add->( "get_robust_list", "asks where its locks are", sub {
        my ( $head, $size ) = ( "\0" x 8, "\0" x 8 );
        return judge( works( "get_robust_list", $pid, $head, $size ) );
    } );
    $add->( "move_pages", "asks where its pages are", sub { judge( works( "move_pages", $pid, 0, 0, 0, 0, 0 ) ) } );
    $add->( "process_madvise", "has its memory paged out", sub {
        my $handle = handle($pid);
        return refused() if !defined $handle || $handle == -1;
        my $vector = pack "QQ", 4096, 4096;
        my ( $result, $error ) = call( "process_madvise", $handle + 0, $vector, 1, 20, 0 );
        return judge( $result != -1 || $error == POSIX::ENOMEM() );
    } );
    $add->( "setns by handle", "enters its namespaces by a handle of the process", sub {
        my $handle = handle($pid);
        return refused() if !defined $handle || $handle == -1;
        return judge( works( "setns", $handle + 0, 0x04000000 ) );
    }, "setns" );
}

group("processes: all");
probe( "environment of any process", "looks for a secret in every environment",
    sub { judge( scalar grep { has_secret( content("/proc/$_/environ") ) } processes() ) } );
probe( "arguments of any process", "looks for a secret in all arguments",
    sub { judge( scalar grep { has_secret( content("/proc/$_/cmdline") ) } processes() ) } );
probe( "environment of its own", "looks for the caller's secret in its own environment",
    sub { judge( scalar grep { has_secret($_) } values %ENV ) } );
probe( "signal by number", "sends the caller's process a signal",
    sub { of_caller( judge( kill $signals{URG}, $arg{pid} ) ) } );
probe( "signal to all", "sends every process that it may a signal", sub {
    # Unconfined, nobody is disturbed.
    return refused() unless kill $arg{unconfined} ? 0 : $signals{URG}, -1;
    return judge_namespace( "pid", 1, "all processes of its own namespace" );
} );
probe( "signal to a thread", "sends the caller's process a signal by tgkill",
    sub { of_caller( judge( works( "tgkill", $arg{pid} + 0, $arg{pid} + 0, $signals{URG} ) ) ) } );
probe( "signal with data", "sends the caller's process a signal by rt_sigqueueinfo", sub {
    my $data = pack "iiix4ii", $signals{URG}, 0, -1, $$, $<;
    $data .= "\0" x ( 128 - length $data );
    return of_caller( judge( works( "rt_sigqueueinfo", $arg{pid} + 0, $signals{URG}, $data ) ) );
} );
probe( "signal by handle", "sends the caller's process a signal by pidfd_send_signal", sub {
    my $handle = handle( $arg{pid} + 0 );
    return refused() if !defined $handle || $handle == -1;
    return of_caller( judge( works( "pidfd_send_signal", $handle + 0, $signals{URG}, 0, 0 ) ) );
} );
probe( "priority of a process", "makes the caller's process slower",
    sub { of_caller( judge( eval { setpriority 0, $arg{pid}, 1 } ) ) } );
probe( "cores of a process", "says which cores the caller's process may use", sub {
    my $mask = "\0" x 128;
    return refused() unless works( "sched_getaffinity", $arg{pid} + 0, 128, $mask );
    return of_caller( judge( works( "sched_setaffinity", $arg{pid} + 0, 128, $mask ) ) );
} );
probe( "disk priority of a process", "changes when the caller's process may use disks",
    sub { of_caller( judge( works( "ioprio_set", 1, $arg{pid} + 0, 3 << 13 ) ) ) } );
probe( "limits of a process", "changes a limit of the caller's process", sub {
    my $old = "\0" x 16;
    return refused() unless works( "prlimit64", $arg{pid} + 0, 11, 0, $old );
    return of_caller( judge( works( "prlimit64", $arg{pid} + 0, 11, $old, 0 ) ) );
} );
probe( "memory of a process between nodes", "moves the memory of the caller's process", sub {
    my ( $old, $new ) = ( pack( "Q", 1 ), pack( "Q", 1 ) );
    return of_caller( judge( works( "migrate_pages", $arg{pid} + 0, 64, $old, $new ) ) );
} );
probe( "oom_score_adj of a process", "has the kernel kill the caller's process first",
    sub { of_caller( judge( writable("/proc/$arg{pid}/oom_score_adj") ) ) } );
probe( "oom_score_adj below", "has the kernel kill everybody else first", sub {
    open my $file, ">", "/proc/self/oom_score_adj" or return refused();
    return judge( syswrite $file, "-999" );
} );
probe( "higher priority", "takes the cores from everybody else (nice -20)",
    sub { judge( eval { setpriority 0, 0, -20 } ) } );
probe( "real time", "takes the cores from everybody else (SCHED_FIFO)",
    sub { my $parameter = pack "i", 1; judge( works( "sched_setscheduler", 0, 1, $parameter ) ) } );
probe( "deadlines", "takes the cores from everybody else (SCHED_DEADLINE)", sub {
    my $attributes = pack "IIQiIQQQ", 48, 6, 0, 0, 0, 1_000_000, 30_000_000, 30_000_000;
    return judge( works( "sched_setattr", 0, $attributes, 0 ) );
} );
probe( "real time for disks", "takes the disks from everybody else",
    sub { judge( works( "ioprio_set", 1, 0, 1 << 13 ) ) } );
my %limits = (
    "locked memory"   => 8,
    "message queues"  => 12,
    "open files"      => 7,
    "priority"        => 13,
    "real time"       => 14,
    "waiting signals" => 11,
);
for my $what ( sort keys %limits ) {
    my $number = $limits{$what};
    probe( "limit of $what", "raises its own hard limit of $what", sub {
        my $old = "\0" x 16;
        return refused() unless works( "prlimit64", 0, $number, 0, $old );
        my ( undef, $hard ) = unpack "QQ", $old;
        return absent("there is no limit") if $hard == ~0;
        my $new = pack "QQ", $hard + 1, $hard + 1;
        return judge( works( "prlimit64", 0, $number, $new, 0 ) );
    } );
}

1;
