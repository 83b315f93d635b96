//! A child process: started on chosen CPUs, bound to the life of this one, ended.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long a server may take to start or stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running child. Killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`: on `cpus` only, when any are given, and within the control groups of which `doors` are the files
    /// that take new members.
    ///
    /// The kernel kills it when the calling thread ends, however that comes about, so that nothing outlives the lab.
    pub(crate) fn start(mut command: Command, cpus: &[usize], doors: Vec<File>) -> io::Result<Process> {
        let affinity = (!cpus.is_empty()).then(|| affinity(cpus));
        let parent = std::process::id();
        // SAFETY: between fork and exec only system calls about the child itself are made; nothing is allocated, since
        // the set and the open files were made before.
        unsafe {
            command.pre_exec(move || {
                die_with(parent)?;
                for mut door in &doors {
                    // Zero stands for whoever writes it.
                    door.write_all(b"0")?;
                }
                affinity.as_ref().map_or(Ok(()), keep_to)
            });
        }
        Ok(Process { child: command.spawn()? })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, if it was piped.
    pub(crate) fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Asks it to stop and waits until it did. One that takes longer than [`PATIENCE`] is killed, which is an error.
    pub(crate) fn stop(mut self) -> Result<ExitStatus, Box<dyn Error>> {
        self.terminate()?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server does not stop".into())
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn terminate(&self) -> io::Result<()> {
        let pid = libc::pid_t::try_from(self.pid()).map_err(io::Error::other)?;
        // SAFETY: sends a signal to our own child, which was not waited for yet.
        done(unsafe { libc::kill(pid, libc::SIGTERM) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the kernel kill the calling process when the thread that forked it ends.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: both calls take and give plain numbers.
    let parent_now = unsafe {
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        libc::getppid()
    };
    // The parent may have ended before the kernel was told.
    if u32::try_from(parent_now) == Ok(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The set of these CPUs; a number beyond the kernel's own bound is left out.
fn affinity(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a set of CPUs is plain bits, of which none set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < 8 * size_of::<libc::cpu_set_t>()) {
        // SAFETY: the number is within the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    set
}

/// Keeps the calling thread, and what it starts, on some CPUs.
fn keep_to(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: reads the set only; CPUs that do not exist make the call fail.
    done(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), std::ptr::from_ref(set)) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_runs_on_the_cpus_that_it_was_given() {
        let cpu = core_affinity::get_core_ids().expect("the affinity can be read")[0].id;
        let mut command = Command::new("sleep");
        command.arg("100");
        let child = Process::start(command, &[cpu], Vec::new()).expect("sleep is there");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("it runs");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
        assert_eq!(allowed, Some(cpu.to_string().as_str()));
        assert!(!child.stop().expect("it can be stopped").success());
    }
}
