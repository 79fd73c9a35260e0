# Networks, sockets of the machine, and kinds of sockets that lead around a network namespace or are seldom used.
use strict;
use warnings;
use Fcntl;
use Socket;

our ( %arg, $first );

sub connects {
    my ( $domain, $type, $address ) = @_;
    socket my $socket, $domain, $type, 0 or return refused();
    fcntl $socket, F_SETFL, O_NONBLOCK;
    return reached() if connect $socket, $address;
    return refused() unless $! == POSIX::EINPROGRESS();
    my $ready = "";
    vec( $ready, fileno $socket, 1 ) = 1;
    return refused("no answer") unless select undef, $ready, undef, 1;
    my $error = unpack "i", getsockopt $socket, SOL_SOCKET, SO_ERROR;
    $! = $error;
    return judge( !$error );
}
sub inet  { my ( $host, $port ) = @_; return pack_sockaddr_in( $port, inet_aton $host) }
sub inet6 { my ( $host, $port ) = @_; return Socket::pack_sockaddr_in6( $port, Socket::inet_pton( AF_INET6, $host ) ) }
sub unix_address { my ($name) = @_; return pack "Sa*", AF_UNIX, $name }

group("networks");
probe( "loopback TCP", "connects to a server on 127.0.0.1",
    sub { connects( PF_INET, SOCK_STREAM, inet( "127.0.0.1", $arg{port} ) ) } );
probe( "loopback TCP, IPv6", "connects to a server on ::1",
    sub { connects( PF_INET6, SOCK_STREAM, inet6( "::1", $arg{port6} ) ) } );
probe( "loopback TCP, mapped", "connects to it by ::ffff:127.0.0.1",
    sub { connects( PF_INET6, SOCK_STREAM, inet6( "::ffff:127.0.0.1", $arg{port} ) ) } );
probe( "loopback UDP", "sends a datagram to 127.0.0.1, and waits for the answer", sub {
    socket my $socket, PF_INET, SOCK_DGRAM, 0 or return refused();
    connect $socket, inet( "127.0.0.1", $arg{udp} ) or return refused();
    send $socket, "probe", 0 or return refused();
    my $ready = "";
    vec( $ready, fileno $socket, 1 ) = 1;
    return refused("no answer") unless select $ready, undef, undef, 1;
    my $text = "";
    return judge( defined recv $socket, $text, 64, 0 );
} );
probe( "any address", "connects to a server on 0.0.0.0",
    sub { connects( PF_INET, SOCK_STREAM, inet( "0.0.0.0", $arg{port} ) ) } );
probe( "the machine's address", "connects to a server on an address of the machine",
    sub { $arg{address} ? connects( PF_INET, SOCK_STREAM, inet( $arg{address}, $arg{port_any} ) ) : absent("it has none") } );
probe( "route to a network", "asks the kernel for a way to another network",
    sub { socket my $socket, PF_INET, SOCK_DGRAM, 0 or return refused(); judge( connect $socket, inet( "192.0.2.1", 9 ) ) } );
probe( "route to metadata", "asks the kernel for a way to the metadata server of clouds",
    sub {
        socket my $socket, PF_INET, SOCK_DGRAM, 0 or return refused();
        return judge( connect $socket, inet( "169.254.169.254", 80 ) );
    } );
probe( "interfaces", "lists network interfaces other than lo", sub {
    socket my $socket, PF_INET, SOCK_DGRAM, 0 or return refused();
    for my $number ( 1 .. 64 ) {
        my $request = pack "x16ix20", $number;
        next unless ioctl $socket, 0x8910, $request;
        my $name = unpack "Z16", $request;
        return reached($name) if $name ne "lo";
    }
    return refused();
} );
probe( "interface up", "changes an interface", sub {
    socket my $socket, PF_INET, SOCK_DGRAM, 0 or return refused();
    my $request = pack "a16x24", "lo";
    ioctl $socket, 0x8913, $request or return refused();
    return judge_namespace( "net", ioctl( $socket, 0x8914, $request ), "the interface of its own network" );
} );
probe( "raw IP", "opens a socket for ICMP as it is on the wire",
    sub { judge_namespace( "net", socket( my $socket, PF_INET, SOCK_RAW, 1 ), "in its own network, which leads nowhere" ) } );
probe( "low port", "takes a port below 1024", sub {
    socket my $socket, PF_INET, SOCK_STREAM, 0 or return refused();
    my $bound = bind $socket, inet( "127.0.0.1", 1 + int rand 1000 );
    return judge_namespace( "net", $bound || $! == POSIX::EADDRINUSE(), "in its own network" );
} );
for my $name (qw(tcp tcp6 udp unix)) {
    my %ports = ( tcp => "port", tcp6 => "port6", udp => "udp" );
    my $want  = $name eq "unix" ? $arg{path} : sprintf ":%04X", $arg{ $ports{$name} };
    probe( "list of $name", "looks for the machine's sockets in /proc/net/$name",
        sub { judge( index( content("/proc/net/$name") || "", $want ) >= 0 ) } );
    probe( "list of $name of process 1", "looks for them in what process 1 sees",
        sub { judge( index( content("/proc/$first/net/$name") || "", $want ) >= 0 ) } );
}

group("sockets of the machine");
probe( "abstract socket", "connects to one",
    sub { connects( PF_UNIX, SOCK_STREAM, unix_address("\0$arg{abstract}") ) } );
probe( "abstract socket, datagrams", "sends to one", sub {
    socket my $socket, PF_UNIX, SOCK_DGRAM, 0 or return refused();
    return judge( connect $socket, unix_address("\0$arg{datagram}") );
} );
probe( "socket with a path", "connects to one", sub { connects( PF_UNIX, SOCK_STREAM, unix_address( $arg{path} ) ) } );
probe( "socket through process 1", "connects to one in the root of process 1",
    sub { connects( PF_UNIX, SOCK_STREAM, unix_address("/proc/$first/root$arg{path}") ) } );

group("kinds of sockets");
sub netlink { my ($kind) = @_; return socket my $socket, 16, SOCK_RAW, $kind }
probe( "netlink: audit", "asks the kernel's audit how it is", sub {
    socket my $socket, 16, SOCK_RAW, 9 or return refused();
    send $socket, pack( "LSSLL", 16, 1000, 1, 1, 0 ), 0, pack( "SSLL", 16, 0, 0, 0 ) or return refused();
    my $ready = "";
    vec( $ready, fileno $socket, 1 ) = 1;
    return refused("no answer") unless select $ready, undef, undef, 1;
    recv $socket, my $answer, 4096, 0;
    my ( undef, $type, undef, undef, undef, $error ) = unpack "LSSLLi", $answer;
    $! = $type == 2 ? -$error : 0;
    return judge( $type != 2 );
} );
probe( "netlink: processes", "has the kernel tell of all processes (connector)", sub {
    socket my $socket, 16, SOCK_DGRAM, 11 or return refused();
    bind $socket, pack "SSLL", 16, 0, $$, 1 or return refused();
    # PROC_CN_MCAST_LISTEN, and a process for it to tell of
    my $message = pack "LSSLL LLLLSSL", 40, 3, 0, 1, $$, 1, 1, 1, 0, 4, 0, 1;
    send $socket, $message, 0, pack "SSLL", 16, 0, 0, 0 or return refused();
    my $child = fork;
    POSIX::_exit(0) unless $child;
    waitpid $child, 0;
    my $ready = "";
    vec( $ready, fileno $socket, 1 ) = 1;
    return refused("it tells nothing") unless select $ready, undef, undef, 0.5;
    return reached("it tells");
} );
probe( "netlink: devices", "has the kernel tell of all devices (uevent)", sub {
    socket my $socket, 16, SOCK_DGRAM, 15 or return refused();
    return judge_namespace( "net", bind( $socket, pack "SSLL", 16, 0, 0, 1 ), "those of its own network namespace alone" );
} );
probe( "netlink: routes", "changes the routes", sub {
    socket my $socket, 16, SOCK_RAW, 0 or return refused();
    # RTM_NEWLINK for lo, as it is
    send $socket, pack( "LSSLLCxSiLL", 32, 16, 5, 1, 0, 0, 0, 1, 0, 0 ), 0, pack( "SSLL", 16, 0, 0, 0 ) or return refused();
    recv $socket, my $answer, 4096, 0;
    my ( undef, undef, undef, undef, undef, $error ) = unpack "LSSLLi", $answer;
    $! = -$error;
    return judge_namespace( "net", !$error, "the routes of its own network" );
} );
my %families = (
    ALG => 38, APPLETALK => 5, ATMPVC => 8, AX25 => 3, BLUETOOTH => 31, CAIF => 37, CAN => 29, IEEE802154 => 36, KCM => 41,
    KEY => 15, LLC => 26, MCTP => 45, NFC => 39, PACKET => 17, PHONET => 35, PPPOX => 24, QIPCRTR => 42, RDS => 21, RXRPC => 33,
    SMC => 43, TIPC => 30, VSOCK => 40, X25 => 9, XDP => 44,
);
for my $name ( sort keys %families ) {
    probe( "AF_$name", "opens a socket of this family", sub {
        for my $type ( SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET ) {
            return reached() if socket my $socket, $families{$name}, $type, 0;
        }
        return refused();
    } );
}

1;
