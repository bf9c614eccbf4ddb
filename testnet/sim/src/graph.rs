//! The overlay as a graph: degrees, symmetry, components, paths, clustering.

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Engine;
use crate::machine::{Machine, NodeId};

/// Sources from which paths are measured: all of ten thousand nodes, and in larger networks so many drawn ones.
const SOURCES_MAX: usize = 10_000;
/// Steps of breadth-first search that may be spent on paths: a million nodes take fewer sources.
const STEPS_MAX: usize = 500_000_000;

/// The active views of the nodes that run. Indices are the nodes'; one that doesn't run has no links.
#[derive(Clone, Debug)]
pub struct Graph {
    offsets: Vec<u32>,
    links: Vec<NodeId>,
    up: Vec<bool>,
}

/// What an overlay looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Nodes that run.
    pub nodes: u32,
    /// The mean length of the shortest paths between nodes that reach each other.
    pub avg_shortest_path: f64,
    /// The longest of those shortest paths that were measured.
    pub diameter: u32,
    /// The mean over nodes of the share of their neighbours' pairs that are neighbours themselves.
    pub clustering: f64,
    /// Groups of nodes that reach each other.
    pub components: u32,
    /// Nodes without a neighbour that runs.
    pub isolated: u32,
}

impl Graph {
    /// Takes the active views as they are.
    pub fn of<M: Machine>(engine: &Engine<M>) -> Self {
        Self::build(engine, M::active)
    }

    /// Takes both views as they are, each entry a link both ways: whom nodes could still reach.
    pub fn of_both_views<M: Machine>(engine: &Engine<M>) -> Self {
        let directed = Self::build(engine, |machine, into| {
            machine.active(into);
            machine.passive(into);
        });
        directed.undirected()
    }

    fn build<M: Machine>(engine: &Engine<M>, views: impl Fn(&M, &mut Vec<NodeId>)) -> Self {
        let mut graph = Self {
            offsets: vec![0],
            links: Vec::new(),
            up: Vec::new(),
        };
        let mut peers = Vec::new();
        for node in 0..engine.len() {
            let machine = engine.machine(node);
            graph.up.push(machine.is_some());
            if let Some(machine) = machine {
                peers.clear();
                views(machine, &mut peers);
                graph
                    .links
                    .extend(peers.iter().filter(|peer| engine.is_up(**peer)));
            }
            graph
                .offsets
                .push(u32::try_from(graph.links.len()).unwrap_or(u32::MAX));
        }
        graph
    }

    fn undirected(&self) -> Self {
        let mut lists: Vec<Vec<NodeId>> = vec![Vec::new(); self.up.len()];
        for node in 0..self.len() {
            for peer in self.of_node(node) {
                lists[node as usize].push(*peer);
                lists[*peer as usize].push(node);
            }
        }
        let mut graph = Self {
            offsets: vec![0],
            links: Vec::new(),
            up: self.up.clone(),
        };
        for list in &mut lists {
            list.sort_unstable();
            list.dedup();
            graph.links.extend_from_slice(list);
            graph
                .offsets
                .push(u32::try_from(graph.links.len()).unwrap_or(u32::MAX));
        }
        graph
    }

    fn len(&self) -> NodeId {
        NodeId::try_from(self.up.len()).unwrap_or(NodeId::MAX)
    }

    /// Returns a node's neighbours, ascending.
    pub fn of_node(&self, node: NodeId) -> &[NodeId] {
        let node = node as usize;
        &self.links[self.offsets[node] as usize..self.offsets[node + 1] as usize]
    }

    fn has(&self, from: NodeId, to: NodeId) -> bool {
        self.of_node(from).binary_search(&to).is_ok()
    }

    /// Returns the nodes that run, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.len()).filter(|node| self.up[*node as usize])
    }

    /// Returns how many nodes have each number of neighbours.
    pub fn degrees(&self) -> Vec<u32> {
        let mut degrees = Vec::new();
        for node in self.nodes() {
            let degree = self.of_node(node).len();
            if degrees.len() <= degree {
                degrees.resize(degree + 1, 0);
            }
            degrees[degree] += 1;
        }
        degrees
    }

    /// Returns the links that one end has and the other hasn't, as the end that has it and the other.
    pub fn asymmetric(&self) -> Vec<(NodeId, NodeId)> {
        self.nodes()
            .flat_map(|node| self.of_node(node).iter().map(move |peer| (node, *peer)))
            .filter(|(node, peer)| !self.has(*peer, *node))
            .collect()
    }

    /// Returns the share of links that both ends have, where so many have one end only.
    pub fn symmetric_share(&self, one_sided: usize) -> f64 {
        let links = self.links.len();
        links.saturating_sub(one_sided) as f64 / links.max(1) as f64
    }

    /// Returns the sizes of the components, following links both ways.
    pub fn components(&self) -> Vec<u32> {
        let graph = self.undirected();
        let mut seen = vec![false; self.up.len()];
        let mut sizes = Vec::new();
        let mut open = Vec::new();
        for node in self.nodes() {
            if std::mem::replace(&mut seen[node as usize], true) {
                continue;
            }
            open.push(node);
            let mut size = 0;
            while let Some(node) = open.pop() {
                size += 1;
                for peer in graph.of_node(node) {
                    if !std::mem::replace(&mut seen[*peer as usize], true) {
                        open.push(*peer);
                    }
                }
            }
            sizes.push(size);
        }
        sizes
    }

    /// Returns the share of ordered pairs of nodes that reach each other, each node and itself included: what a broadcast
    /// from random senders can reach at most.
    pub fn ceiling(&self) -> f64 {
        let nodes = self.nodes().count() as f64;
        let pairs: f64 = self
            .components()
            .iter()
            .map(|size| f64::from(*size).powi(2))
            .sum();
        if nodes == 0.0 {
            0.0
        } else {
            pairs / (nodes * nodes)
        }
    }

    /// Measures everything; sources of paths are drawn where there are too many.
    pub fn measure(&self, rng: &mut ChaCha8Rng) -> Figures {
        let nodes: Vec<NodeId> = self.nodes().collect();
        let (avg_shortest_path, diameter) = self.paths(&nodes, rng);
        let isolated = nodes
            .iter()
            .filter(|node| self.of_node(**node).is_empty())
            .count();
        Figures {
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            avg_shortest_path,
            diameter,
            clustering: self.clustering(&nodes),
            components: u32::try_from(self.components().len()).unwrap_or(u32::MAX),
            isolated: u32::try_from(isolated).unwrap_or(u32::MAX),
        }
    }

    fn paths(&self, nodes: &[NodeId], rng: &mut ChaCha8Rng) -> (f64, u32) {
        let affordable = STEPS_MAX / self.links.len().max(1);
        let sources = nodes.len().min(SOURCES_MAX).min(affordable.max(1));
        let mut distances = vec![u32::MAX; self.up.len()];
        let mut open = VecDeque::new();
        let (mut sum, mut pairs, mut longest) = (0_u64, 0_u64, 0);
        for index in 0..sources {
            let source = if sources == nodes.len() {
                nodes[index]
            } else {
                nodes[rng.random_range(0..nodes.len())]
            };
            distances.fill(u32::MAX);
            distances[source as usize] = 0;
            open.push_back(source);
            while let Some(node) = open.pop_front() {
                let distance = distances[node as usize];
                sum += u64::from(distance);
                pairs += u64::from(distance > 0);
                longest = longest.max(distance);
                for peer in self.of_node(node) {
                    if distances[*peer as usize] == u32::MAX {
                        distances[*peer as usize] = distance + 1;
                        open.push_back(*peer);
                    }
                }
            }
        }
        (sum as f64 / pairs.max(1) as f64, longest)
    }

    fn clustering(&self, nodes: &[NodeId]) -> f64 {
        let of_node = |node: &NodeId| {
            let peers = self.of_node(*node);
            let pairs = peers.len() * peers.len().saturating_sub(1);
            let linked: usize = peers
                .iter()
                .map(|a| {
                    peers
                        .iter()
                        .filter(|b| a != *b && self.has(*a, **b))
                        .count()
                })
                .sum();
            if pairs == 0 {
                0.0
            } else {
                linked as f64 / pairs as f64
            }
        };
        let sum: f64 = nodes.iter().map(of_node).sum();
        sum / nodes.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Makes a graph of lists of neighbours.
    fn graph(lists: &[&[NodeId]]) -> Graph {
        let mut graph = Graph {
            offsets: vec![0],
            links: Vec::new(),
            up: vec![true; lists.len()],
        };
        for list in lists {
            graph.links.extend_from_slice(list);
            graph.offsets.push(graph.links.len() as u32);
        }
        graph
    }

    #[test]
    fn a_triangle_with_a_tail_has_the_figures_of_the_textbook() {
        let graph = graph(&[&[1, 2], &[0, 2], &[0, 1, 3], &[2]]);
        let figures = graph.measure(&mut ChaCha8Rng::seed_from_u64(1));
        // Paths: 1 between neighbours (8 ordered pairs), 2 between the tail's end and the other two (4).
        assert!((figures.avg_shortest_path - 16.0 / 12.0).abs() < 1e-9);
        assert_eq!(figures.diameter, 2);
        // Two nodes of clustering 1, one of 1/3, one of 0.
        assert!((figures.clustering - (2.0 + 1.0 / 3.0) / 4.0).abs() < 1e-9);
        assert_eq!((figures.components, figures.isolated), (1, 0));
        assert_eq!(graph.degrees(), [0, 1, 2, 1]);
    }

    #[test]
    fn a_split_graph_has_a_ceiling_below_one() {
        let graph = graph(&[&[1], &[0], &[3], &[2], &[]]);
        assert_eq!(graph.components(), [2, 2, 1]);
        assert!((graph.ceiling() - 9.0 / 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_link_of_one_end_is_asymmetric() {
        let graph = graph(&[&[1], &[]]);
        assert_eq!(graph.asymmetric(), [(0, 1)]);
        assert_eq!(graph.components(), [2]);
    }
}
