//! (skeleton)
/// (skeleton)
#[derive(Debug)]
pub struct Swarm;
