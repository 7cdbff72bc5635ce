//! A terminal for tests: the program runs on a real pseudo-terminal, and a terminal emulator interprets its output.

use rexpect::process::{PtyProcess, Signal, WaitStatus};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Maximum time that a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The line editor enables bracketed paste while it reads a line.
const READING: &str = "\x1b[?2004h";

/// A program on a pseudo-terminal.
pub(crate) struct Terminal {
    process: PtyProcess,
    master: File,
    bytes: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// All bytes that the program wrote.
    pub(crate) raw: Vec<u8>,
    before: Termios,
}

impl Terminal {
    /// Starts `command` on a terminal of this size.
    pub(crate) fn new(mut command: Command, rows: u16, cols: u16) -> Self {
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        let mut process = PtyProcess::new(command).unwrap();
        process.set_kill_timeout(Some(1000));
        let master = process.get_file_handle().unwrap();
        // The library switches the echo off before the program starts.
        let begun = Instant::now();
        let before = loop {
            let now = tcgetattr(&master).unwrap();
            if !now.local_modes.contains(LocalModes::ECHO) || begun.elapsed() > PATIENCE {
                break now;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let (sender, bytes) = channel();
        let mut reader = process.get_file_handle().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let parser = vt100::Parser::new(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(cols).unwrap(), 0);
        let mut terminal = Self { process, master, bytes, parser, raw: Vec::new(), before };
        terminal.resize(rows, cols);
        terminal
    }

    /// Starts `command` and waits for its first prompt.
    pub(crate) fn chat(command: Command, rows: u16, cols: u16) -> Self {
        let mut terminal = Self::new(command, rows, cols);
        terminal.prompt_after(0);
        terminal
    }

    /// Changes the size of the terminal, like a window manager.
    pub(crate) fn resize(&mut self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        self.parser.screen_mut().set_size(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(cols).unwrap());
    }

    /// Presses keys.
    pub(crate) fn keys(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // A terminal's queue has 4 kB. Writing more at once would block, and the program waits for us: a deadlock.
            let n = rest.len().min(1024);
            self.master.write_all(&rest[..n]).unwrap();
            rest = &rest[n..];
            self.take(Duration::from_millis(1));
        }
    }

    /// Sends any bytes, also those that no key sends.
    pub(crate) fn raw_keys(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    /// Types `text` and Enter, and waits for the next prompt. Returns the text that was written in the meantime.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let mark = self.raw.len();
        self.keys(text);
        self.keys("\r");
        self.prompt_after(mark);
        String::from_utf8_lossy(&self.raw[mark..]).into_owned()
    }

    /// Pastes `text` as terminals do.
    pub(crate) fn paste(&mut self, text: &str) {
        self.keys(&format!("\x1b[200~{}\x1b[201~", text.replace('\n', "\r")));
    }

    /// Waits for a prompt after the first `mark` bytes of [`Self::raw`].
    pub(crate) fn prompt_after(&mut self, mark: usize) {
        self.until("a prompt", |terminal| {
            let new = String::from_utf8_lossy(&terminal.raw[mark..]).into_owned();
            new.rsplit_once(READING).is_some_and(|(_, after)| after.contains(">>> "))
        });
    }

    /// Waits for `text` after the first `mark` bytes of [`Self::raw`].
    pub(crate) fn text_after(&mut self, mark: usize, text: &str) {
        self.until(text, |terminal| String::from_utf8_lossy(&terminal.raw[mark..]).contains(text));
    }

    /// Waits until the line editor has returned, after which Ctrl-C sends a signal.
    pub(crate) fn cooked(&mut self) {
        self.until("the end of input", |terminal| {
            tcgetattr(&terminal.master).is_ok_and(|now| now.local_modes.contains(LocalModes::ISIG))
        });
    }

    /// Waits until `done`.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < PATIENCE, "waited for {what}:\n{}", self.screen());
            self.take(Duration::from_millis(5));
        }
    }

    /// Reads what the program writes within `time`.
    pub(crate) fn take(&mut self, time: Duration) {
        if let Ok(bytes) = self.bytes.recv_timeout(time) {
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
    }

    /// The text on the screen.
    pub(crate) fn screen(&self) -> String {
        let text = self.parser.screen().contents();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned() + "\n"
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// Waits until the program ends and returns the exit code. Asserts that the terminal has its original settings
    /// again.
    pub(crate) fn ended(&mut self) -> i32 {
        let began = Instant::now();
        let status = loop {
            match self.process.status() {
                Some(WaitStatus::StillAlive) if began.elapsed() < PATIENCE => self.take(Duration::from_millis(5)),
                Some(WaitStatus::Exited(_, code)) => break code,
                other => panic!("{other:?}\n{}", self.screen()),
            }
        };
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(100)) {
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
        let now = tcgetattr(&self.master).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes, "echo, lines and signals");
        assert_eq!(now.input_modes, self.before.input_modes);
        assert!(!self.parser.screen().bracketed_paste() && !self.parser.screen().hide_cursor());
        status
    }

    /// Waits until a signal has ended the program, and returns the signal.
    pub(crate) fn killed(&mut self) -> Signal {
        let began = Instant::now();
        loop {
            match self.process.status() {
                Some(WaitStatus::StillAlive) if began.elapsed() < PATIENCE => self.take(Duration::from_millis(5)),
                Some(WaitStatus::Signaled(_, signal, _)) => break signal,
                other => panic!("{other:?}\n{}", self.screen()),
            }
        }
    }

    /// Compares the screen with `tests/golden/chat/NAME.txt`, with `hidden` shown as `<name>`. If TULU_QUANT_BLESS is
    /// set, writes the file instead.
    pub(crate) fn golden(&self, name: &str, hidden: &[(&str, &str)]) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/chat/{name}.txt"));
        let screen = hidden.iter().fold(self.screen(), |text, (what, name)| text.replace(what, name));
        if std::env::var_os("TULU_QUANT_BLESS").is_some() {
            std::fs::write(&file, &screen).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(screen, kept, "{} differs; TULU_QUANT_BLESS=1 remakes it", file.display());
    }
}
