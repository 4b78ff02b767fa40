//! The lines that the host counts: `vm: ok NAME`, `vm: FAIL NAME: why`, `vm: done …`.

use anyhow::Result;

/// How many scenarios passed and failed until now.
#[derive(Debug, Default)]
pub struct Results {
    passed: u32,
    failed: u32,
}

impl Results {
    /// Runs a scenario and prints its line. Gives whether it passed.
    pub fn take(&mut self, name: &str, scenario: impl FnOnce() -> Result<()>) -> bool {
        let result = scenario();
        match &result {
            Ok(()) => {
                self.passed += 1;
                println!("vm: ok {name}");
            }
            Err(error) => {
                self.failed += 1;
                println!("vm: FAIL {name}: {}", format!("{error:#}").replace('\n', " | "));
            }
        }
        result.is_ok()
    }

    /// Prints the last line.
    pub fn done(&self) {
        println!("vm: done {} passed, {} failed", self.passed, self.failed);
    }
}
