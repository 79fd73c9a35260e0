# The machine's files by their paths, and through processes that have them.
use strict;
use warnings;
use Fcntl;

our ( %arg, $first );
my $up = "../" x 40;

group("files");
probe( "secret by path", "opens a file that its owner alone may read", sub { reads_secret( $arg{file} ) } );
probe( "secret by ..", "opens it by more .. than there are directories", sub { reads_secret("/$up$arg{file}") } );
probe( "secret through /proc/self/root", "opens it by .. behind the process's own root",
    sub { reads_secret("/proc/self/root/$up$arg{file}") } );
probe( "secret through /proc/self/cwd", "opens it by .. behind the process's own directory",
    sub { chdir "/"; reads_secret("/proc/self/cwd/$up$arg{file}") } );
probe( "secret through process 1", "opens it in the root of process 1",
    sub { reads_secret("/proc/$first/root$arg{file}") } );
probe( "secret through process 1, its directory", "opens it from the directory of process 1",
    sub { reads_secret("/proc/$first/cwd/$up$arg{file}") } );
probe( "secret through the caller's root", "opens it in the root of a process of the caller",
    sub { reads_secret("/proc/$arg{pid}/root$arg{file}") } );
probe( "secret through any root", "opens it in the root of every process that is seen",
    sub { judge( scalar grep { has_secret( content("/proc/$_/root$arg{file}") ) } processes() ) } );
probe( "secret through any directory", "opens it from the directory of every process that is seen",
    sub { judge( scalar grep { has_secret( content("/proc/$_/cwd/$up$arg{file}") ) } processes() ) } );
probe( "secret in any descriptor", "reads what files other processes have open", sub {
    my @others = grep { $_ != $$ && $_ != getppid } processes();
    my @found = grep { has_secret( content($_) ) } grep { -f } map { glob "/proc/$_/fd/*" } @others;
    return judge( scalar @found );
} );
probe( "inherited descriptors", "reads what files this process was left with", sub {
    for my $number ( 0 .. 1023 ) {
        open my $file, "<&=", $number or next;
        my $text = "";
        # The place is shared with whoever has the file open, as this program's own output.
        my $place = -f $file && sysseek( $file, 0, 1 ) or next;
        my $read = sysseek( $file, 0, 0 ) && sysread $file, $text, 4096;
        sysseek $file, $place, 0;
        return reached("descriptor $number") if $read && has_secret($text);
    }
    $! = POSIX::EBADF();
    return refused();
} );
probe( "inherited directories", "changes into a directory that this process was left with, and goes up from there",
    sub {
    my $found = "";
    for my $number ( 3 .. 1023 ) {
        next unless works( "fchdir", $number );
        $found = $number if has_secret( content("$up$arg{file}") );
    }
    return judge( length $found, "descriptor $found" );
} );
probe( "root's home", "lists /root of the machine", sub {
    opendir my $home, "/root" or return refused();
    my @names = grep { $_ eq $arg{home_name} } readdir $home;
    return judge( scalar @names );
} );
probe( "directory of the caller", "lists a directory of the caller",
    sub { opendir my $files, $arg{dir} or return refused(); reached() } );

# Unconfined, what these change is put back: the witness is to serve further probes.
group("changing files");
probe( "write by path", "opens a file of the machine for writing", sub { judge( writable( $arg{target} ) ) } );
probe( "write through process 1", "opens it for writing in the root of process 1",
    sub { judge( writable("/proc/$first/root$arg{target}") ) } );
probe( "write through any root", "opens it for writing in the root of every process that is seen",
    sub { judge( scalar grep { writable("/proc/$_/root$arg{target}") } processes() ) } );
probe( "write through any directory", "opens it for writing from the directory of every process that is seen",
    sub { judge( scalar grep { writable("/proc/$_/cwd/$up$arg{target}") } processes() ) } );
probe( "write through any descriptor", "opens for writing what the caller's processes have open",
    sub {
        my @paths = map { readlink($_) || "" } map { glob "/proc/$_/fd/*" } processes();
        return judge( scalar grep { $_ eq $arg{target} && writable($_) } @paths );
    } );
probe( "new file", "makes a file beside it", sub {
    sysopen my $file, "$arg{dir}/new", O_WRONLY | O_CREAT or return refused();
    unlink "$arg{dir}/new" if $arg{unconfined};
    return reached();
} );
probe( "new directory", "makes a directory beside it", sub {
    mkdir "$arg{dir}/new-directory" or return refused();
    rmdir "$arg{dir}/new-directory" if $arg{unconfined};
    return reached();
} );
probe( "new link", "makes a symlink beside it", sub {
    symlink "/etc", "$arg{dir}/new-link" or return refused();
    unlink "$arg{dir}/new-link" if $arg{unconfined};
    return reached();
} );
probe( "hard link", "makes a hard link to it", sub {
    link $arg{target}, "$arg{dir}/hard" or return refused();
    unlink "$arg{dir}/hard" if $arg{unconfined};
    return reached();
} );
probe( "rename", "renames it", sub {
    rename $arg{target}, "$arg{target}.moved" or return refused();
    rename "$arg{target}.moved", $arg{target} if $arg{unconfined};
    return reached();
} );
probe( "truncate", "truncates it", sub { judge( truncate $arg{target}, 0 ) } );
probe( "chmod", "changes its mode", sub {
    my $mode = ( stat $arg{target} )[2];
    return judge( chmod $arg{unconfined} ? $mode & 07777 : 04777, $arg{target} );
} );
probe( "chown", "changes its owner", sub {
    my @stat = stat $arg{target};
    return judge( @stat ? chown $stat[4], $stat[5], $arg{target} : chown 0, 0, $arg{target} );
} );
probe( "times", "changes its times",
    sub { my @stat = stat $arg{target}; judge( utime $stat[8], $stat[9], $arg{target} ) } );
probe( "attribute", "gives it an extended attribute",
    sub { judge( works( "setxattr", $arg{target}, "user.probe", "x", 1, 0 ) ) } );
probe( "watch by inotify", "watches it", sub {
    my ($inotify) = call( "inotify_init1", 0 );
    return judge( defined $inotify && $inotify != -1 && works( "inotify_add_watch", $inotify + 0, $arg{file}, 0xFFF ) );
} );
probe( "program of process 1", "opens the program file that process 1 runs", sub {
    sysopen my $file, "/proc/$first/exe", O_RDONLY or return refused();
    return reached();
} );
probe( "program of any process", "opens, to write, the program file of a process that runs one of another root directory",
    sub {
    for my $pid ( processes() ) {
        my $path = readlink "/proc/$pid/exe" or next;
        my ( $program, $own ) = map { join ":", ( stat $_ )[ 0, 1 ] } "/proc/$pid/exe", $path;
        next if $program eq $own && !$arg{unconfined};
        # A program that runs cannot be opened to be written, but once it has ended.
        return reached($path) if writable("/proc/$pid/exe") || $! == POSIX::ETXTBSY();
    }
    return refused();
} );
probe( "file handle", "makes a handle of a file for open_by_handle_at", sub {
    my $handle = pack "Ii", 128, 0;
    $handle .= "\0" x 128;
    my $id = "\0" x 8;
    return refused() unless works( "name_to_handle_at", -100, "/", $handle, $id, 0 );
    return harmless("a handle is a number: it opens nothing without open_by_handle_at");
} );
probe( "open by file handle", "opens the machine's files by their inode numbers",
    sub {
    my $handle = pack( "Ii", 8, 1 ) . pack( "II", 2, 0 );    # the root directory of ext4
    my $directory = open_directory("/");
    my ( $result, $error ) = call( "open_by_handle_at", $directory, $handle, 0 );
    return judge( $result != -1 || $error == POSIX::ESTALE() || $error == POSIX::EINVAL() );
}, "open_by_handle_at" );

sub open_directory {
    my ($path) = @_;
    our $held;
    sysopen $held, $path, O_RDONLY | O_DIRECTORY or die "$path: $!";
    return fileno $held;
}

1;
