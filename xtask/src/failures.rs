//! What the test runner tells of tests that failed, kept for the end: whoever sees only the end of a long run must
//! learn from it which tests they were.

use crate::tally::without_colours;

/// How many lines of what one test printed are kept. A panic and what led to it have far fewer.
const LINES_OF_A_TEST: usize = 40;

/// The parts that tell of failures, in the order of the binaries.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    lines: Vec<String>,
    is_inside: bool,
    /// How many lines the test has that is told of.
    of_this_test: usize,
}

impl Failures {
    /// Keeps one line of output, if it tells of a failure: all between `failures:` and the closing line of a binary.
    pub(crate) fn add_line(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim_end();
        if line.starts_with("test result: ") {
            self.is_inside = false;
        }
        let is_heading = line == "failures:" || (line.starts_with("---- ") && line.ends_with(" ----"));
        if is_heading {
            self.is_inside |= line == "failures:";
            self.of_this_test = 0;
        }
        if self.is_inside && !line.is_empty() {
            self.of_this_test += 1;
            // The first lines are of the panic; the names of all that failed come after a heading of their own.
            if self.of_this_test <= LINES_OF_A_TEST {
                self.lines.push(line.to_owned());
            }
        }
    }

    /// The lines, each of which stands for itself.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &[&str]) -> Vec<String> {
        let mut failures = Failures::default();
        for line in lines {
            failures.add_line(line);
        }
        failures.lines().to_vec()
    }

    #[test]
    fn a_failure_is_kept_and_nothing_else() {
        let lines = kept(&[
            "running 2 tests\n",
            "test a ... ok\n",
            "test b ... \u{1b}[31mFAILED\u{1b}[m\n",
            "\n",
            "failures:\n",
            "\n",
            "---- b stdout ----\n",
            "thread 'b' panicked at src/lib.rs:1:1:\n",
            "  an indented message\n",
            "\n",
            "failures:\n",
            "    b\n",
            "\n",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
            "test c ... ok\n",
        ]);
        assert_eq!(
            lines,
            [
                "failures:",
                "---- b stdout ----",
                "thread 'b' panicked at src/lib.rs:1:1:",
                "  an indented message",
                "failures:",
                "    b",
            ]
        );
    }

    #[test]
    fn a_test_that_prints_much_leaves_room_for_the_next() {
        let mut lines = vec!["failures:", "---- a stdout ----"];
        lines.extend(std::iter::repeat_n("again", 1_000));
        lines.extend([
            "---- b stdout ----",
            "the reason",
            "failures:",
            "    a",
            "    b",
            "test result: FAILED.",
        ]);
        let kept = kept(&lines);
        assert_eq!(kept.iter().filter(|line| *line == "again").count(), LINES_OF_A_TEST - 1);
        assert_eq!(
            kept[kept.len() - 5..],
            ["---- b stdout ----", "the reason", "failures:", "    a", "    b"]
        );
    }
}
