//! On what was measured.

use std::{fmt::Write as _, fs, thread};

/// A line of Markdown: how many cores of which processor, and how much memory, as far as the system says.
pub(crate) fn describe() -> String {
    let mut text = String::from("- ");
    let _ = match thread::available_parallelism() {
        Ok(cores) => write!(text, "{cores} cores"),
        Err(_) => write!(text, "an unknown number of cores"),
    };
    if let Some(model) = field("/proc/cpuinfo", "model name") {
        let _ = write!(text, " of {model}");
    }
    if let Some(memory) = field("/proc/meminfo", "MemTotal") {
        let _ = write!(text, ", {memory} of memory");
    }
    if let Some(load) =
        fs::read_to_string("/proc/loadavg").ok().as_deref().and_then(|text| text.split(' ').next())
    {
        let _ = write!(text, ", a load of {load} at the end");
    }
    let _ = write!(text, ", {}.", std::env::consts::OS);
    text
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
