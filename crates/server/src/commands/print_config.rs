//! `fanfare print-config`: the settings in force, the example file, or the docs page.

use super::{Failure, print};
use crate::cli::PrintConfig;
use crate::settings::{self, Settings};

/// The example and the docs do not depend on settings, so wrong ones do not stop them.
pub(super) fn run(asked: &PrintConfig, load: impl FnOnce() -> Result<Settings, Failure>) -> Result<(), Failure> {
    if asked.docs {
        print(&settings::docs())
    } else if asked.defaults {
        print(&settings::example())
    } else {
        print(&settings::effective(&load()?))
    }
}
