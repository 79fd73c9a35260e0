# The machine's clock, names, swap, log, modules; large parts of the kernel that programs of packages do not need.
use strict;
use warnings;
use Fcntl;

our ( %arg, $first );

group("the machine");
probe( "clock", "sets it, to the time that it is", sub {
    my $now = "\0" x 16;
    call( "clock_gettime", 0, $now );
    return judge( works( "clock_settime", 0, $now ) );
}, "clock_settime" );
probe( "clock, by the old call", "asks whether it may set it",
    sub { judge( works( "settimeofday", 0, 0 ) ) }, "settimeofday" );
for my $name (qw(adjtimex clock_adjtime)) {
    my @clock = $name eq "clock_adjtime" ? 0 : ();
    probe( "clock's speed by $name", "sets it, to what it is", sub {
        my $state = "\0" x 256;
        my ( $result, $error ) = call( $name, @clock, $state );
        return refused() if $result == -1;
        substr( $state, 0, 4 ) = pack "L", 2;    # ADJ_FREQUENCY
        return judge( works( $name, @clock, $state ) );
    }, $name );
}
probe( "host name", "gives the machine a name", sub {
    my $name = $arg{unconfined} ? ( POSIX::uname() )[1] : "reached-by-probe";
    return judge_namespace( "uts", works( "sethostname", $name, length $name ), "the name of its own namespace" );
}, "sethostname" );
probe( "domain name", "gives the machine a domain", sub {
    my $name = content("/proc/sys/kernel/domainname") || "";
    chomp $name;
    return judge_namespace( "uts", works( "setdomainname", $name, length $name ), "the name of its own namespace" );
}, "setdomainname" );
probe_call( "swap on", "has the machine use a file as swap", "swapon", 0, 0 );
probe_call( "swap off", "takes swap away", "swapoff", 0 );
probe_call( "accounting", "has the machine keep accounts of processes", "acct", "/nonexistent" );
probe_call( "quotas", "writes quotas out", "quotactl", 0x80000100, 0, 0, 0 );
probe_call( "quotas by descriptor", "writes quotas out", "quotactl_fd", -1, 0x80000100, 0, 0 );
probe_call( "reboot", "asks for a reboot, without the numbers that it takes", "reboot", 1, 2, 3, 0 );
probe_call( "kexec", "loads another kernel", "kexec_load", 0, 17, 0, 1 << 30 );
probe_call( "kexec by file", "loads another kernel from a file", "kexec_file_load", -1, -1, 0, 0, 0 );
probe_call( "module", "loads a module", "init_module", 0, 0, 0 );
probe_call( "module by file", "loads a module from a file", "finit_module", -1, 0, 0 );
probe_call( "module's removal", "removes a module", "delete_module", "opam-oci-none", 0 );
probe_call( "module by the old call", "makes a module", "create_module", "opam-oci-none", 4096 );
probe_call( "profiles of the kernel", "looks up a cookie of a profile", "lookup_dcookie", 0, 0, 0 );
probe_call( "ports", "may use all ports of the processor", "iopl", 3 );
probe_call( "some ports", "may use some of them", "ioperm", 0x80, 1, 1 );
probe_call( "the server of NFS", "speaks to it", "nfsservctl", 0, 0, 0 );
probe_call( "a library by its path", "loads one by the old call", "uselib", "/nonexistent" );
probe( "kernel's log", "reads it",
    sub { my $room = "\0" x 4096; judge( works( "syslog", 3, $room, 4096 ) ) }, "syslog" );
probe( "kernel's log: size", "asks how long it is", sub { judge( works( "syslog", 10, 0, 0 ) ) }, "syslog" );
probe( "kernel's log: unread", "asks how much nobody has read", sub { judge( works( "syslog", 9, 0, 0 ) ) }, "syslog" );

group("the kernel's parts");
probe( "bpf maps", "makes one",
    sub { my $attributes = pack "L4 x112", 2, 4, 4, 1; looked_at( "bpf", 0, $attributes, 72 ) }, "bpf" );
probe( "bpf programs", "lists them",
    sub { my $attributes = "\0" x 128; looked_at( "bpf", 11, $attributes, 12 ) }, "bpf" );
probe( "bpf objects", "opens one by its path",
    sub {
        my $path       = "/sys/fs/bpf/none";
        my $attributes = pack( "P", $path ) . "\0" x 64;
        return looked_at( "bpf", 7, $attributes, 16 );
    }, "bpf" );
probe( "performance counters", "counts what the machine does",
    sub {
        my $event = pack( "LLQ", 1, 64, 0 ) . "\0" x 48;
        return looked_at( "perf_event_open", $event, -1, 0, -1, 0 );
    }, "perf_event_open" );
probe( "performance counters of a process", "counts what process 1 does",
    sub {
        my $event = pack( "LLQ", 1, 64, 0 ) . "\0" x 48;
        return looked_at( "perf_event_open", $event, $first, -1, -1, 0 );
    }, "perf_event_open" );
probe_call( "userfaultfd", "answers faults of the kernel", "userfaultfd", 0 );
probe_call( "userfaultfd of programs", "answers faults of programs", "userfaultfd", 1 );
probe_call( "io_uring", "makes a ring", "io_uring_setup", 0, 0 );
probe_call( "io_uring's registers", "registers buffers", "io_uring_register", -1, 0, 0, 0 );
probe_call( "io_uring's work", "has it done", "io_uring_enter", -1, 0, 0, 0, 0, 0 );
probe_call( "fanotify", "watches a whole file system", "fanotify_init", 0x04, 0 );
probe_call( "fanotify of a user", "watches files without privileges", "fanotify_init", 0x200, 0 );
probe( "personality", "has programs loaded at known addresses",
    sub { judge( works( "personality", 0x0040000 ) ) }, "personality" );
probe( "personality: page zero", "has memory at address 0",
    sub { judge( works( "personality", 0x0100000 ) ) }, "personality" );
probe( "personality: reading is running", "has all memory executable",
    sub { judge( works( "personality", 0x0400000 ) ) }, "personality" );
probe( "descriptor tables", "reads its own descriptor table (modify_ldt)", sub {
    my $room = "\0" x 16;
    my ($result) = call( "modify_ldt", 0, $room, 16 );
    return absent("this machine has no such call") unless defined $result;
    return refused() if $result == -1;
    return harmless("a table of the process itself; Wine and old programs need it, container engines allow it");
} );
probe( "its own filter", "loads a filter of system calls", sub {
    my $sizes = "\0" x 6;
    return works( "seccomp", 3, 0, $sizes ) ? harmless("filters only take away") : refused();
} );
probe( "its own rules", "makes rules of Landlock", sub {
    return works( "landlock_create_ruleset", 0, 0, 1 ) ? harmless("rules only take away") : refused();
} );
probe( "core dump", "ends with a core dump", sub {
    my $pattern = content("/proc/sys/kernel/core_pattern") || "";
    return absent("a program of the machine would keep it") if $arg{unconfined} && $pattern =~ /^\|/;
    my $at = scratch();
    my $child = fork;
    if ( !$child ) {
        chdir $at;
        my $limits = pack "QQ", ~0, ~0;
        call( "prlimit64", 0, 4, $limits, 0 );
        kill 11, $$;
        POSIX::_exit(1);
    }
    waitpid $child, 0;
    opendir( my $directory, $at );
    my @cores = grep { /core/ } readdir $directory;
    return @cores ? harmless("the file lies where the program ran: inside") : refused("no file");
} );
probe( "numbers of another machine", "calls by the numbers of x32, which a filter may not know", sub {
    my $result = syscall 0x40000000 + 272, 0x10000000;
    return judge( $result != -1 );
} );

1;
