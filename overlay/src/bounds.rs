//! Bounds, checked: every simulation asks every member whether its state is within them.

/// Returns what to say if there is more of something than there may be.
pub(crate) fn within(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count <= max {
        Ok(())
    } else {
        Err(format!("{count} {what}, at most {max} allowed"))
    }
}
