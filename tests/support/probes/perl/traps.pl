# What is left behind for the builder, who follows it afterwards, or takes it into a layer. Its directory: arguments.
use strict;
use warnings;
use Fcntl;
use Socket;

our %arg;
my $at = $arg{traps} or return 1;

# Whether anybody has followed, the caller sees.
sub left { my ($works) = @_; return $works ? harmless("left behind; nobody follows it") : refused() }

sub new_file { my ($path) = @_; sysopen my $file, $path, O_WRONLY | O_CREAT or die "$path: $!"; return $file }

group("left behind");
mkdir $at;
my %links = (
    "link to a secret"       => $arg{file},
    "link by .."             => ( "../" x 40 ) . $arg{file},
    "link to a directory"    => $arg{dir},
    "link to an environment" => "/proc/self/environ",
    "link by process 1"      => "/proc/1/root$arg{file}",
    "link to itself"         => "loop",
    "link to a new file"     => "$arg{dir}/made",
);
for my $name ( sort keys %links ) {
    ( my $file = $name ) =~ s/ /-/g;
    $file = "loop" if $name eq "link to itself";
    probe( $name, "leaves a symlink in its layer", sub { left( symlink $links{$name}, "$at/$file" ) } );
}
probe( "link in /tmp", "leaves a symlink where the tool puts .debs and sources",
    sub { left( symlink $arg{dir}, "/tmp/debs-probe" ) } );
probe( "link in /dev", "leaves a symlink where the tool puts its library",
    sub { left( symlink "$arg{dir}/made", "/dev/probe-library" ) } );
probe( "hard link to a set-uid program", "keeps su beside it", sub { left( link "/usr/bin/su", "$at/su" ) } );
# A base that has one of these is refused: arguments say so.
my $refused = "a base with one is refused";
probe( "pipe", "leaves one where a reader would wait for ever",
    sub { $arg{only_files} ? absent($refused) : left( POSIX::mkfifo( "$at/pipe", 0666 ) ) } );
probe( "socket file", "leaves one", sub {
    socket my $socket, PF_UNIX, SOCK_STREAM, 0 or return refused();
    return left( bind $socket, pack "Sa*", AF_UNIX, "$at/socket" );
} );
probe( "whiteout", "leaves what overlayfs takes for a removed file",
    sub { $arg{only_files} ? absent($refused) : left( works( "mknodat", -100, "$at/whiteout", 020000, 0 ) ) } );
probe( "set-uid file", "leaves a program that runs as its owner",
    sub { new_file("$at/set-uid"); left( chmod 06755, "$at/set-uid" ) } );
probe( "sticky file", "leaves a file with the sticky bit",
    sub { new_file("$at/sticky"); left( chmod 01755, "$at/sticky" ) } );
for my $attribute (
    [ "capabilities", "security.capability", pack "L5", 0x02000001, 0xffffffff, 0, 0xffffffff, 0 ],
    [ "opaque (root)", "trusted.overlay.opaque", "y" ],
    [ "redirect (root)", "trusted.overlay.redirect", "/etc" ],
    [ "opaque (user)", "user.overlay.opaque", "y" ],
    [ "redirect (user)", "user.overlay.redirect", "/etc" ],
    [ "whiteouts (user)", "user.overlay.opaque", "x" ],
    [ "origin (user)", "user.overlay.origin", "\0" x 8 ],
    [ "a label", "security.selinux", "probe" ],
    )
{
    my ( $name, $key, $value ) = @$attribute;
    ( my $directory = "$at/attribute-$name" ) =~ s/[ ()]+/-/g;
    probe( "attribute: $name", "leaves a file with $key", sub {
        if ( $key =~ /overlay/ ) { mkdir $directory } else { new_file($directory) }
        return left( works( "setxattr", $directory, $key, $value, length $value, 0 ) );
    } );
}
my %names = (
    "newline"      => "a\nb",
    "terminal"     => "\e[2Jclear",
    "not UTF-8"    => "\xff\xfe",
    "255 bytes"    => "x" x 255,
    "options"      => "-rf --no-preserve-root",
    "commas"       => "lowerdir=a:b,upperdir=c\\",
);
for my $name ( sort keys %names ) {
    probe( "name: $name", "leaves a file of this name", sub { new_file("$at/$names{$name}"); left(1) } );
}
probe( "deep directories", "leaves a hundred directories below each other", sub {
    mkdir "$at/deep" and chdir "$at/deep" or return refused();
    for ( 1 .. 100 ) { mkdir "directory-of-a-long-name" and chdir "directory-of-a-long-name" or return refused() }
    return left(1);
} );
probe( "a file without permissions", "leaves a directory that nobody may enter",
    sub { mkdir "$at/closed"; new_file("$at/closed/file"); left( chmod 0, "$at/closed" ) } );

1;
