# Tries to change and to read what is whose in a view. Prints a line for each try: "NAME ok" or "NAME ERRNO".
# Perl alone, without its modules. Argument: "arm" on aarch64.
my $arm = ( $ARGV[0] || "" ) eq "arm" ? 1 : 0;
$| = 1;

# x86_64, aarch64
my %number = (
    faccessat => [ 269, 48 ],
    fchmodat  => [ 268, 53 ],
    fchownat  => [ 260, 54 ],
    linkat    => [ 265, 37 ],
    mknodat   => [ 259, 33 ],
    mount     => [ 165, 40 ],
    renameat2 => [ 316, 276 ],
    setresgid => [ 119, 149 ],
    setresuid => [ 117, 147 ],
    setgroups => [ 116, 159 ],
    setxattr  => [ 188, 5 ],
    removexattr => [ 197, 14 ],
    statfs    => [ 137, 43 ],
);

sub note {
    my ( $name, $result ) = @_;
    my $error = $result ? "ok" : $! + 0;
    print "$name $error\n";
}

sub call {
    my ( $name, @arguments ) = @_;
    return syscall( $number{$name}[$arm], @arguments ) >= 0;
}

my $here = -100;
my %open = ( read => 0, write => 1, both => 2, create => 0101, truncate => 01001, append => 02001 );

# Of a file
sub try_file {
    my ($path) = @_;
    for my $how ( sort keys %open ) {
        note( "open $how $path", sysopen( my $file, $path, $open{$how} ) );
    }
    note( "access $_ $path", call( "faccessat", $here, $path, $_, 0 ) ) for 0, 1, 2, 4;
    note( "truncate $path", truncate( $path, 0 ) );
    note( "utime now $path", utime( undef, undef, $path ) );
    note( "utime $path", utime( 1, 1, $path ) );
    note( sprintf( "chmod %o $path", $_ ), chmod( $_, $path ) ) for 0755, 04755, 02755, 01777, 0600, 0644;
    note( "chown $$_[0] $$_[1] $path", chown( $$_[0], $$_[1], $path ) )
      for [ 0, 0 ], [ 1000, 1000 ], [ -1, -1 ], [ 0, -1 ], [ -1, 0 ], [ 1001, -1 ], [ -1, 1001 ];
    note( "xattr user $path", call( "setxattr", $path, "user.x", "1", 1, 0 ) );
    note( "xattr trusted $path", call( "setxattr", $path, "trusted.x", "1", 1, 0 ) );
    note( "xattr capability $path",
        call( "setxattr", $path, "security.capability", pack( "VVVVV", 0x02000001, 1, 0, 0, 0 ), 20, 0 ) );
    note( "exec $path", system( { $path } $path, "--version" ) != -1 );
}

# Of a name in a directory
sub try_name {
    my ( $directory, $name ) = @_;
    my $path = "$directory/$name";
    note( "link $path to home",     call( "linkat", $here, $path, $here, "/home/opam/of-$name", 0 ) );
    note( "link $path to tmp",      call( "linkat", $here, $path, $here, "/tmp/of-$name",       0 ) );
    note( "link $path beside",      call( "linkat", $here, $path, $here, "$path.link",          0 ) );
    note( "rename $path to home",   rename( $path, "/home/opam/moved-$name" ) );
    note( "exchange $path",         call( "renameat2", $here, $path, $here, "$directory/.", 2 ) );
    note( "rename $path beside",    rename( $path, "$path.moved" ) );
    note( "rename home to $path",   rename( "/home/opam/spare", $path ) );
    note( "unlink $path",           unlink($path) );
    note( "unlink $path",           unlink($path) );
}

# Of a directory
sub try_directory {
    my ($path) = @_;
    note( "list $path", opendir( my $directory, $path ) );
    note( "enter $path", chdir($path) );
    chdir "/";
    note( "access $_ $path", call( "faccessat", $here, $path, $_, 0 ) ) for 1, 2, 4;
    note( "file in $path", sysopen( my $file, "$path/new", 0102, 0644 ) );
    note( "directory in $path", mkdir("$path/directory") );
    note( "link in $path",      symlink( "/etc/passwd", "$path/link" ) );
    note( "fifo in $path",      call( "mknodat", $here, "$path/fifo", 0010644, 0 ) );
    note( "null in $path",      call( "mknodat", $here, "$path/null", 0020666, 0x103 ) );
    note( "disk in $path",      call( "mknodat", $here, "$path/disk", 0060666, 0x800 ) );
    note( "whiteout in $path",  call( "mknodat", $here, "$path/whiteout", 0020000, 0 ) );
    note( "rmdir in $path",     rmdir("$path/directory") );
    note( sprintf( "chmod %o $path", $_ ), chmod( $_, $path ) ) for 0777, 0755;
    note( "utime $path", utime( 1, 1, $path ) );
    note( "rmdir $path", rmdir($path) );
}

sysopen my $spare, "/home/opam/spare", 0102, 0644;
print $spare "spare\n";
close $spare;

# root's, of the base and of a .deb; of opam's packages; its own
for my $path ( qw(/bin/tool /etc/passwd /etc/shadow /etc/of-root /usr/lib/private-tool /usr/lib/of-deb /var/log/open /root/key),
    qw(/home/opam/.opam/default/lib/p/file /home/opam/spare) )
{
    try_file($path);
}
for my $path ( qw(/ /etc /root /usr/lib /usr/lib/shut /srv/half /srv/open /var/tmp /run/lock /run /tmp /dev /dev/shm /proc),
    qw(/proc/sys /home /home/opam /home/opam/.opam/default/lib/p) )
{
    try_directory($path);
}
try_name( "/bin", "tool" );
try_name( "/etc", "of-root" );
try_name( "/usr/lib", "of-deb" );
try_name( "/home/opam/.opam/default/lib/p", "file" );
note( "rename of home",     rename( "/home/opam", "/home/other" ) );
note( "read through link",  open( my $by_link, "<", "/srv/to-shadow" ) );
note( "chmod device",       chmod( 0, "/dev/null" ) );
note( "write device",       open( my $null, ">", "/dev/null" ) );
note( "write stdout",       open( my $stdout, ">", "/dev/stdout" ) );
note( "chmod stdin",        chmod( 0, "/dev/stdin" ) );
note( "mount",              call( "mount", "none", "/tmp", "tmpfs", 0, 0 ) );
note( "become root",        call( "setresuid", 0, 0, 0 ) );
note( "become group root",  call( "setresgid", 0, 0, 0 ) );
note( "become 1001",        call( "setresuid", 1001, 1001, 1001 ) );
note( "become opam",        call( "setresuid", 1000, 1000, 1000 ) );
note( "groups",             call( "setgroups", 0, 0 ) );
note( "signal to 1",        kill( 0, 1 ) );
note( "read of 1 $_",       open( my $file, "<", "/proc/1/$_" ) ) for qw(environ mem maps);
note( "enter 1 $_",         chdir("/proc/1/$_") ) for qw(cwd root fd);
chdir "/";
# What is its own it may do with as it likes.
for my $mode ( 04755, 02755, 06755, 01755 ) {
    my $path = sprintf "/home/opam/mode-%o", $mode;
    sysopen my $file, $path, 0102, 0644;
    note( "mode $path", chmod( $mode, $path ) );
}
# Lists of who may do what: for opam, and by default for what a directory gets.
my $list = pack "V (vvV)5", 2, 1, 6, ~0, 2, 6, 1000, 4, 4, ~0, 16, 6, ~0, 32, 4, ~0;
mkdir "/home/opam/listed";
note( "list of a file", call( "setxattr", "/home/opam/mode-1755", "system.posix_acl_access", $list, length $list, 0 ) );
note( "list of a directory",
    call( "setxattr", "/home/opam/listed", "system.posix_acl_default", $list, length $list, 0 ) );
sysopen my $listed, "/home/opam/listed/file", 0102, 0666;
# No layer can have them.
note( "no list of a file", call( "removexattr", $_, "system.posix_acl_access" ) )
    for qw(/home/opam/mode-1755 /home/opam/listed/file);
note( "no list of a directory", call( "removexattr", "/home/opam/listed", "system.posix_acl_default" ) );
mkdir "/home/opam/directory";
note( "mode of a directory", chmod( 02775, "/home/opam/directory" ) );
link "/home/opam/mode-4755", "/home/opam/again";
chmod 0700, "/home/opam/.opam/default/lib/p";
unlink "/home/opam/.opam/default/lib/p/other";
