# Files of /proc and /sys that tell of the machine, and its parameters. The paths of these are in parameters.txt.
use strict;
use warnings;
no warnings "portable";
use Fcntl;

our %arg;

# In the phase of mmdebstrap nothing of /proc is hidden but what a user namespace may not have anyway.
my $whole = "every user of the machine may; mmdebstrap mounts /proc anew, which the kernel allows only where nothing of it is "
    . "hidden";
my %public = map { $_ => 1 } qw(/proc/interrupts /proc/pressure/cpu);

group("what /proc tells");
for my $file (
    [ "kcore", "the machine's memory" ],
    [ "kmsg", "the kernel's log" ],
    [ "slabinfo", "what the kernel has allocated" ],
    [ "vmallocinfo", "where" ],
    [ "pagetypeinfo", "what its memory is used for" ],
    [ "kpagecount", "who uses which page of memory" ],
    [ "kpageflags", "what each page is" ],
    [ "kpagecgroup", "which control group has it" ],
    [ "timer_list", "its timers" ],
    [ "sched_debug", "its processes" ],
    [ "latency_stats", "what they wait for" ],
    [ "interrupts", "its interrupts, and so when keys are pressed" ],
    [ "mtrr", "its memory's types" ],
    [ "acpi/wakeup", "what wakes it" ],
    )
{
    my ( $name, $what ) = @$file;
    probe( "reading /proc/$name", "reads $what", sub {
        sysopen my $file, "/proc/$name", O_RDONLY | O_NONBLOCK or return refused();
        my $read = sysread $file, my $text, 64;
        return harmless($whole) if $read && $arg{mounts} && $public{"/proc/$name"} && !in_host("user");
        return reached() if $read || !defined $read && $! == POSIX::EAGAIN();
        return refused( defined $read ? "it is empty" : "$!" );
    } );
}
probe( "addresses of the kernel", "looks for them in /proc/kallsyms",
    sub { my $text = content("/proc/kallsyms"); judge( defined $text && $text =~ /^[0-9a-f]*[1-9a-f][0-9a-f]* /m ) } );
probe( "addresses of devices", "looks for them in /proc/iomem",
    sub { my $text = content("/proc/iomem"); judge( defined $text && $text =~ /[1-9a-f][0-9a-f]{4,}-/ ) } );
probe( "addresses of its memory", "looks for the places of its own pages in /proc/self/pagemap", sub {
    sysopen my $file, "/proc/self/pagemap", O_RDONLY or return refused();
    my ($start) = ( content("/proc/self/maps") || "" ) =~ /^([0-9a-f]+)-/;
    sysseek $file, hex($start) / 4096 * 8, 0;
    sysread $file, my $entry, 8 or return refused();
    return judge( unpack( "Q", $entry ) & 0x7fffffffffffff );
} );
probe( "/sys/firmware", "lists it",
    sub { opendir my $directory, "/sys/firmware" or return refused(); judge( scalar grep { !/^\./ } readdir $directory ) } );

# In a namespace of its own, these are its own.
my @owners = (
    [ qr{^/proc/sys/net/},                                                  "net" ],
    [ qr{^/proc/sys/kernel/(msg|sem|shm)},                                  "ipc" ],
    [ qr{^/proc/sys/fs/mqueue/},                                            "ipc" ],
    [ qr{^/proc/sys/kernel/(host|domain)name},                              "uts" ],
    [ qr{^/proc/sys/user/},                                                 "user" ],
    [ qr{^/proc/sys/kernel/(ns_last_pid|pid_max)},                          "pid" ],
);

( my $here = $0 ) =~ s{[^/]*$}{};
open my $list, "<", "${here}parameters.txt" or die "parameters.txt: $!";
group("parameters");
for my $line (<$list>) {
    chomp $line;
    next if $line =~ /^(#|$)/;
    my ($path) = split ' ', $line;
    probe( $path, "opens it for writing", sub {
        my ($found) = $path =~ /\*/ ? glob $path : $path;
        return refused("none") unless defined $found && length $found;
        writable($found) or return refused();
        return harmless($whole) if $arg{mounts} && $public{$found} && !in_host("user");
        my ($owner) = grep { $found =~ $_->[0] } @owners;
        return reached() if !$owner || in_host( $owner->[1] );
        return harmless("of its own namespace ($owner->[1])");
    } );
}

1;
