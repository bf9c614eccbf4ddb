//! The structured layer. For now its geometry: keys, the points that they stand at, and the distance between points.
