//! A mount and process namespace for tests that need file systems of their own. What a test mounts and starts in it ends with
//! it, however it ends: nothing is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the process that runs inside.
const INSIDE: &str = "RIALTO_TEST_SANDBOX";

/// Whether this process is inside. If not, runs the test `name` of this program again, inside, and passes its outcome on;
/// where the system has no namespaces to give, the test is skipped, with a line that says so.
pub fn is_inside(name: &str) -> bool {
    is_inside_with(name, &[], &["true"])
}

/// The same with a network of its own too, in which the test can make hosts and cut lines as it likes; see
/// [`Network`](crate::network::Network).
pub fn is_inside_network(name: &str) -> bool {
    let tries = "mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add try && test -w /dev/net/tun";
    is_inside_with(name, &["--net"], &["sh", "-c", tries])
}

/// `trial` is a program that works inside exactly where the test can.
fn is_inside_with(name: &str, more_namespaces: &[&str], trial: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let namespaces = [&["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"], more_namespaces].concat();
    // Who is not root may still be it in a namespace of users: enough for file systems in memory.
    let choices = [&[][..], &["--user", "--map-root-user"]];
    let works = |more: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**more).args(&namespaces).args(trial).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(more) = choices.iter().find(works) else {
        let what = if more_namespaces.is_empty() { "mounts" } else { "mounts and networks, iproute2 and /dev/net/tun" };
        println!("skipped: {name}: needs namespaces for {what} (root, or unprivileged user namespaces)");
        return false;
    };
    let mut inside = Command::new("unshare")
        .args(*more)
        .args(&namespaces)
        .arg(std::env::current_exe().expect("a running program has a path"))
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it could be started a moment ago");
    // What it says is passed on but for its count of tests: this test is counted out here.
    let said = BufReader::new(inside.stdout.take().expect("it is piped"));
    said.lines()
        .map_while(Result::ok)
        .filter(|line| !line.starts_with("test result: "))
        .for_each(|line| println!("{line}"));
    let status = inside.wait().expect("it was started");
    assert!(status.success(), "{name} failed inside its namespace");
    false
}

/// A file system, unmounted when dropped.
pub struct Mount {
    path: PathBuf,
    /// The loop device that it is on.
    image: Option<PathBuf>,
}

impl Mount {
    /// One in memory, of so many bytes.
    pub fn memory(path: &Path, bytes: u64) -> Result<Mount, String> {
        std::fs::create_dir_all(path).expect("a writable folder");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", text(path)])?;
        Ok(Mount { path: path.to_owned(), image: None })
    }

    /// An ext4 of so many bytes in the file `image`, which is made.
    pub fn ext4(path: &Path, image: &Path, bytes: u64) -> Result<Mount, String> {
        std::fs::create_dir_all(path).expect("a writable folder");
        File::create(image).and_then(|file| file.set_len(bytes)).expect("a writable folder");
        run("mkfs.ext4", &["-q", "-F", text(image)])?;
        let mount = Mount { path: path.to_owned(), image: Some(image.to_owned()) };
        mount.mount()?;
        Ok(mount)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn mount(&self) -> Result<(), String> {
        let image = self.image.as_deref().expect("it has an image");
        // The device goes with the mount.
        run("mount", &["-o", "loop", text(image), text(&self.path)])
    }

    /// From now on nothing reaches the disk any more, not even what is on its way: the file system is shut down under
    /// whoever uses it, as by a power cut.
    pub fn cut_power(&self) {
        let folder = File::open(&self.path).expect("it is mounted");
        shut_down(&folder).expect("ext4 can be shut down by root");
    }

    /// After [`Mount::cut_power`]: what is on the disk, as the next start of the machine finds it. Nobody may use it.
    pub fn power_up(&self) {
        run("umount", &[text(&self.path)]).unwrap_or_else(|error| panic!("{error}"));
        self.mount().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Read-only from now on, or no longer.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), String> {
        run("mount", &["-o", if read_only { "remount,ro" } else { "remount,rw" }, text(&self.path)])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: whoever still holds a file of it has ended or is about to.
        let _ = run("umount", &["-l", text(&self.path)]);
        drop(self.image.as_deref().map(std::fs::remove_file));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain characters")
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", arguments.join(" "), said.trim())) }
}

/// `FS_IOC_SHUTDOWN` without flushing the file system's journal.
#[expect(unsafe_code, reason = "an ioctl that no library has; it takes one number and gives nothing back")]
fn shut_down(folder: &File) -> rustix::io::Result<()> {
    const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
    const WITHOUT_FLUSHING: u32 = 2;
    // SAFETY: the kernel reads one u32 behind the pointer, which `Setter` gives it, and writes nothing.
    unsafe { rustix::ioctl::ioctl(folder, rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(WITHOUT_FLUSHING)) }
}
