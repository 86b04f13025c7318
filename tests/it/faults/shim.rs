//! Runs of the program under `tests/faults/shim.c`, and what the shim says that it did to them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;

use crate::cli::{Ending, program};

/// The shim's log.
const LOG: &str = "faults";

/// What happens, and to which of the calls that write, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) kind: &'static str,
    pub(super) first: usize,
    /// 0 is no end.
    pub(super) last: usize,
}

impl Fault {
    /// To every call from the first on.
    pub(super) fn all(kind: &'static str) -> Self {
        Self::from(kind, 1)
    }

    /// To the call of this number and every later one, as on a disk that is full.
    pub(super) fn from(kind: &'static str, first: usize) -> Self {
        Self {
            kind,
            first,
            last: 0,
        }
    }

    /// To the call of this number alone.
    pub(super) fn once(kind: &'static str, number: usize) -> Self {
        Self {
            kind,
            first: number,
            last: number,
        }
    }
}

/// A call that writes: `open`, `write`, `sync`, `rename`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Call {
    fn parse(line: &str) -> Self {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().expect("number, call and path");
        Self {
            number: word().parse().expect("a number"),
            name: word().into(),
            path: word().into(),
        }
    }
}

/// How a run ended, and what was done to it.
pub(super) struct Broken {
    pub(super) ending: Ending,
    pub(super) signal: Option<i32>,
    pub(super) fired: Vec<Call>,
}

impl Broken {
    /// Everything there is to know, for messages of assertions.
    pub(super) fn shown(&self) -> String {
        let Ending {
            code,
            stdout,
            stderr,
        } = &self.ending;
        format!(
            "fired: {:#?}\ncode {code:?}, signal {:?}\n--- stdout\n{stdout}--- stderr\n{stderr}",
            self.fired, self.signal
        )
    }

    /// Nothing that only a programmer understands was said.
    #[track_caller]
    pub(super) fn is_orderly(&self) {
        for noise in ["panicked", "RUST_BACKTRACE", "should not", ".partial"] {
            assert!(!self.ending.stderr.contains(noise), "{}", self.shown());
        }
    }

    /// The work was done all the same.
    #[track_caller]
    pub(super) fn is_done(&self) {
        assert_eq!(self.ending.code, Some(0), "{}", self.shown());
        self.is_orderly();
    }
}

/// The program under the shim, with everything that is the user's below `folder`.
#[derive(Debug)]
pub(super) struct Shimmed {
    command: Command,
    log: TempDir,
}

impl Shimmed {
    /// `None` where the shim cannot be built or does not work; that is said.
    pub(super) fn new<A: AsRef<OsStr>>(
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Option<Self> {
        let (command, log) = (program(), tempfile::tempdir().expect("a folder"));
        let mut shimmed = Self { command, log };
        let log = shimmed.log.path().join(LOG);
        shimmed
            .command
            .args(arguments)
            .current_dir(folder)
            .env("LD_PRELOAD", shim()?)
            .env("FAULT_LOG", log)
            .env("FAULT_UNDER", folder)
            .env("HOME", folder)
            .env("XDG_CACHE_HOME", folder.join("cache"));
        for variable in ["COLUMNS", "RUST_LOG", "NO_COLOR", "FAULT_KIND"] {
            shimmed.command.env_remove(variable);
        }
        Some(shimmed)
    }

    pub(super) fn fault(mut self, fault: Fault) -> Self {
        let Fault { kind, first, last } = fault;
        let numbers = [("FAULT_FIRST", first), ("FAULT_LAST", last)];
        self.command.env("FAULT_KIND", kind);
        self.command
            .envs(numbers.map(|(name, number)| (name, number.to_string())));
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts the program, to be waited for later.
    pub(super) fn start(mut self) -> Running {
        let pipes = self.command.stdin(Stdio::null());
        let pipes = pipes.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running {
            child: pipes.spawn().expect("the program starts"),
            log: self.log,
        }
    }

    pub(super) fn run(self) -> Broken {
        self.start().ended()
    }

    /// Runs a shell's line on a terminal, the program alone under the shim; `None` where nothing makes terminals.
    pub(super) fn on_a_terminal(mut self, line: &str) -> Option<Broken> {
        let library = shim()?.display();
        let mut script = Command::new("script");
        script.args([
            "-qec",
            &format!("LD_PRELOAD='{library}' {line}"),
            "/dev/null",
        ]);
        script.current_dir(self.command.get_current_dir()?);
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) if name != "LD_PRELOAD" => script.env(name, value),
                _ => script.env_remove(name),
            };
        }
        Command::new("script").arg("--version").output().ok()?;
        self.command = script;
        Some(self.run())
    }
}

/// A program that runs under the shim.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    log: TempDir,
}

impl Running {
    fn log(&self) -> PathBuf {
        self.log.path().join(LOG)
    }

    /// Waits until the first fault has fired.
    pub(super) fn fired(&self) {
        let is_there = || fs::metadata(self.log()).is_ok_and(|file| file.len() > 0);
        let tries = (0..60_000).map(|_| std::thread::sleep(Duration::from_millis(5)));
        assert!(
            tries.map(|()| is_there()).any(|there| there),
            "a fault fires"
        );
    }

    pub(super) fn ended(self) -> Broken {
        let log = self.log();
        let output = self.child.wait_with_output().expect("the program ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let log = fs::read_to_string(log).unwrap_or_default();
        Broken {
            signal: output.status.signal(),
            ending: Ending {
                code: output.status.code(),
                stdout: text(output.stdout),
                stderr: text(output.stderr),
            },
            fired: log.lines().map(Call::parse).collect(),
        }
    }
}

/// The shim's library, built once a process by the C compiler that links Rust's programs.
fn shim() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let built = build().and_then(|(folder, library)| {
            works(&library)?;
            Ok((folder, library))
        });
        built
            .inspect_err(|reason| eprintln!("skipped: faults cannot be injected here: {reason}"))
            .ok()
    });
    built.as_ref().map(|(_, library)| library.as_path())
}

fn build() -> Result<(TempDir, PathBuf), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let library = folder.path().join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-O2", "-fPIC", "-shared", "-o"]);
    let output = command.arg(&library).arg(source).output();
    let output = output.map_err(|error| format!("no C compiler: {error}"))?;
    if output.status.success() {
        Ok((folder, library))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Some containers do not let a process trap its own calls.
fn works(library: &Path) -> Result<(), String> {
    let log = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = program();
    let shimmed = command.arg("--version").env("LD_PRELOAD", library);
    let shimmed = shimmed.env("FAULT_LOG", log.path().join("faults"));
    let output = shimmed.env("FAULT_KIND", "count").output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(()),
        _ => Err(format!("the shim does not start: {}", output.status)),
    }
}
