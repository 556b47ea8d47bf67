//! Limits the connections of each peer, so that one peer cannot take all of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_resilience::network;

/// Counts the connections of each peer. Clones share the counts.
#[derive(Debug, Clone)]
pub struct Peers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// A counted connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Peers,
    network: IpAddr,
}

impl Peers {
    /// Makes a counter with a limit of `most` connections for each peer.
    pub fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// Counts a connection. `None` if its peer has reached the limit. A loopback peer is a proxy or a
    /// tunnel that carries all callers, and has no limit.
    pub fn enter(&self, peer: IpAddr) -> Option<Place> {
        let most = if peer.to_canonical().is_loopback() { usize::MAX } else { self.most };
        let network = network(peer);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Entries exist only for open connections, whose number is limited.
        let count = counts.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count = count.saturating_add(1);
        drop(counts);
        Some(Place { peers: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_a_limit_of_its_own() {
        let peers = Peers::new(2);
        let enter = |address: &str| peers.enter(address.parse().unwrap());
        let one = enter("192.0.2.1").unwrap();
        let two = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none(), "in either spelling");
        let other = enter("192.0.2.2").unwrap();
        let six = [enter("2001:db8:1:2::1").unwrap(), enter("2001:db8:1:2::2").unwrap()];
        assert!(enter("2001:db8:1:2:3::").is_none(), "one network");
        assert!(enter("2001:db8:1:3::").is_some(), "another");
        drop(one);
        let again = enter("192.0.2.1").unwrap();
        drop((two, other, six, again));
        assert!(peers.counts.lock().unwrap().is_empty(), "nothing is kept of peers that left");
    }

    #[test]
    fn loopback_peers_have_no_limit() {
        for (address, expected) in [
            ("127.0.0.1", 5),
            ("127.8.9.10", 5),
            ("::ffff:127.0.0.1", 5),
            ("::1", 5),
            ("192.0.2.1", 2),
            ("10.0.0.1", 2),
            ("::2", 2),
            ("2001:db8::1", 2),
        ] {
            let peers = Peers::new(2);
            let places: Vec<_> = (0..5).filter_map(|_| peers.enter(address.parse().unwrap())).collect();
            assert_eq!(places.len(), expected, "{address}");
            drop(places);
            assert!(peers.counts.lock().unwrap().is_empty(), "{address}");
        }
    }
}
