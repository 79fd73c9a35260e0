# Tries to reach the machine out of a sandbox. Prints a line for each try, separated by tabs:
#
#     probe  GROUP  NAME  WHAT IT TRIES  SYSTEM CALL (may be empty)  OUTCOME  DETAIL
#
# OUTCOME is "reached"; "refused", with the error; "harmless": it worked, but inside only, with why; "absent": it cannot be
# tried here, with why. Arguments: NAME=VALUE, see tests/support/probes/__init__.py. Perl without modules but its core's is in
# every Debian root. The probes are in the files beside this one.
use strict;
use warnings;
use POSIX ();

our %arg = map { split /=/, $_, 2 } @ARGV;
our @probes;
$| = 1;
$SIG{PIPE} = "IGNORE";
umask 0;

( my $here = $0 ) =~ s{[^/]*$}{};
$here = "./$here" unless $here =~ m{^/};
for my $name (qw(tools files processes namespaces mounts devices sockets memory kernel parameters traps)) {
    defined do "$here$name.pl" or die "$name.pl: " . ( $@ || $! ) . "\n";
}

# Each in a process of its own: what one does to itself, such as to leave a chroot, is not the next one's.
sub answer {
    my ($try) = @_;
    pipe my $read, my $write or die "pipe: $!";
    my $child = fork;
    die "fork: $!" unless defined $child;
    if ( !$child ) {
        close $read;
        alarm 10;
        my $found = eval { $try->() } || [ "absent", "the probe failed: $@" ];
        syswrite $write, join "\t", @$found;
        POSIX::_exit(0);
    }
    close $write;
    my $text = "";
    while ( sysread $read, my $piece, 4096 ) { $text .= $piece }
    waitpid $child, 0;
    my $signal = $? & 127;
    return $text if length $text;
    return $signal == 14 ? "absent\tno answer within 10 s" : "refused\tended by signal $signal";
}

for my $probe (@probes) {
    my ( $group, $name, $what, $call, $try ) = @$probe;
    my $found = answer($try);
    $found =~ s/[^\t -~]+/ /g;
    print join( "\t", "probe", $group, $name, $what, $call, $found ), "\n";
}
