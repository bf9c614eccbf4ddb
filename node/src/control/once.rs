//! Requests that a client may repeat: the first is carried out, the others get its answer.
//!
//! A request goes on though its caller has gone, so that a repeat finds what became of it. What was asked for is remembered
//! by its hash: a batch of messages may have megabytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use weft_identity::Hash;
use weft_rpc::method::Method;
use weft_rpc::{Error, Kind};

/// Requests that are remembered. A guess: some minutes of a busy client; each takes about a kilobyte beside its answer.
const REQUESTS_MAX: usize = 4_096;
/// Bytes of all answers that are remembered: a hundred of the largest batches' receipts, or those of all small ones.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a client's name for a request.
const ID_BYTES_MAX: usize = 64;

type Outcome<T> = Result<T, Error>;

/// A request with its client's name for it.
#[derive(Debug)]
pub(super) struct Named {
    id: String,
    /// What is asked for: another request may not have the same name.
    asked: Hash,
}

impl Named {
    /// Names a method's call; none where its client gave it no name.
    pub(super) fn call<M: Method>(
        id: Option<&str>,
        params: &M::Params,
    ) -> Result<Option<Self>, Error> {
        let Some(id) = id else {
            return Ok(None);
        };
        if !(1..=ID_BYTES_MAX).contains(&id.len()) {
            return Err(
                Error::new(Kind::InvalidParams, "a request_id has 1 to 64 bytes")
                    .hint("a random number will do"),
            );
        }
        let asked = serde_json::to_vec(&(M::NAME, params))
            .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        Ok(Some(Self {
            id: id.to_owned(),
            asked: Hash::of(&asked),
        }))
    }
}

/// A request under way or answered.
#[derive(Debug)]
struct Request<T> {
    asked: Hash,
    answer: watch::Receiver<Option<Outcome<T>>>,
    /// What its answer takes; 0 until it is there.
    answer_bytes: usize,
}

impl<T> Request<T> {
    fn is_under_way(&self) -> bool {
        // Without an answer and without anybody who could give one, its task has failed.
        self.answer.borrow().is_none() && self.answer.has_changed().is_ok()
    }
}

/// What was asked for lately, and its answers.
#[derive(Debug)]
struct Requests<T> {
    by_id: BTreeMap<String, Request<T>>,
    /// The oldest first.
    order: VecDeque<String>,
    answers_bytes: usize,
}

impl<T> Requests<T> {
    fn forget(&mut self, id: &str) {
        if let Some(request) = self.by_id.remove(id) {
            self.answers_bytes -= request.answer_bytes;
        }
        self.order.retain(|other| other != id);
    }

    /// Forgets the oldest request that is over; false where there is none. One under way stays: a repeat must find it.
    fn forget_oldest(&mut self) -> bool {
        let over = |id: &&String| {
            self.by_id
                .get(*id)
                .is_none_or(|request| !request.is_under_way())
        };
        let Some(oldest) = self.order.iter().find(over).cloned() else {
            return false;
        };
        self.forget(&oldest);
        true
    }
}

/// Requests by their clients' names, each carried out once. Clones share them.
#[derive(Debug)]
pub(super) struct Once<T> {
    requests: Arc<Mutex<Requests<T>>>,
    /// Answers how many bytes an answer takes beyond a kilobyte.
    weigh: fn(&T) -> usize,
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self {
            requests: Arc::clone(&self.requests),
            weigh: self.weigh,
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// Remembers nothing yet; `weigh` answers how many bytes an answer takes beyond a kilobyte.
    pub(super) fn new(weigh: fn(&T) -> usize) -> Self {
        Self {
            requests: Arc::new(Mutex::new(Requests {
                by_id: BTreeMap::new(),
                order: VecDeque::new(),
                answers_bytes: 0,
            })),
            weigh,
        }
    }

    /// Carries out a request, or waits for the answer of the one before it that had the same name; without a name it is
    /// carried out in any case.
    pub(super) async fn run(
        &self,
        named: Option<Named>,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let Some(named) = named else {
            return work.await;
        };
        let mut answer = self.begin(named, work)?;
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    fn begin(
        &self,
        named: Named,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Result<watch::Receiver<Option<Outcome<T>>>, Error> {
        let Named { id, asked } = named;
        let mut requests = self.requests();
        if let Some(request) = requests.by_id.get(&id) {
            if request.asked != asked {
                return Err(
                    Error::new(Kind::InvalidParams, "another request had this request_id").hint(
                        "a request_id belongs to one request and its repeats; choose another",
                    ),
                );
            }
            return Ok(request.answer.clone());
        }
        if requests.order.len() >= REQUESTS_MAX && !requests.forget_oldest() {
            return Err(Error::new(
                Kind::Busy,
                format!("{REQUESTS_MAX} requests with a request_id are under way"),
            )
            .hint("try again in a moment"));
        }
        let (tell, answer) = watch::channel(None);
        let request = Request {
            asked,
            answer: answer.clone(),
            answer_bytes: 0,
        };
        requests.order.push_back(id.clone());
        requests.by_id.insert(id.clone(), request);
        drop(requests);
        let once = self.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            once.end(&id, &outcome);
            // Whoever asked may have gone.
            let _ = tell.send(Some(outcome));
        });
        Ok(answer)
    }

    /// Keeps an answer, or forgets a request of which nothing was done: a repeat tries again.
    fn end(&self, id: &str, outcome: &Outcome<T>) {
        let mut requests = self.requests();
        let bytes = match outcome {
            Ok(answer) => (self.weigh)(answer),
            Err(error) if error.kind == Kind::Busy => return requests.forget(id),
            Err(_) => 0,
        };
        if let Some(request) = requests.by_id.get_mut(id) {
            request.answer_bytes = bytes;
            requests.answers_bytes += bytes;
        }
        while requests.answers_bytes > ANSWERS_BYTES_MAX && requests.forget_oldest() {}
    }

    fn requests(&self) -> MutexGuard<'_, Requests<T>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's runtime is ending.
fn lost() -> Error {
    super::errors::stopping()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use weft_rpc::method::{PeerPing, PeerRemove};
    use weft_rpc::types::PeerParams;

    use super::*;

    fn once<T: Clone + Send + Sync + 'static>() -> Once<T> {
        Once::new(|_| 1)
    }

    fn params(peer_id: &str) -> PeerParams {
        PeerParams {
            peer_id: peer_id.to_owned(),
        }
    }

    fn id(id: &str) -> Option<Named> {
        Named::call::<PeerPing>(Some(id), &params("a")).unwrap()
    }

    fn counting(
        count: &Arc<AtomicUsize>,
    ) -> impl Future<Output = Outcome<usize>> + Send + 'static + use<> {
        let count = Arc::clone(count);
        async move { Ok(count.fetch_add(1, Ordering::Relaxed)) }
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer() {
        let (once, count) = (once(), Arc::default());
        for _ in 0..3 {
            let answer = once.run(id("a"), counting(&count)).await;
            assert_eq!(answer.unwrap(), 0);
        }
        let other = once.run(id("b"), counting(&count)).await;
        assert_eq!(other.unwrap(), 1);
        for expected in 2..4 {
            let unnamed = Named::call::<PeerPing>(None, &params("a")).unwrap();
            let answer = once.run(unnamed, counting(&count)).await;
            assert_eq!(answer.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_name_belongs_to_one_request() {
        let (once, count) = (once(), Arc::default());
        assert!(once.run(id("a"), counting(&count)).await.is_ok());
        for other in [
            Named::call::<PeerPing>(Some("a"), &params("b")),
            Named::call::<PeerRemove>(Some("a"), &params("a")),
        ] {
            let refused = once.run(other.unwrap(), counting(&count)).await;
            assert_eq!(refused.unwrap_err().kind, Kind::InvalidParams);
        }
        for wrong in ["", &"x".repeat(65)] {
            let refused = Named::call::<PeerPing>(Some(wrong), &params("a"));
            assert_eq!(refused.unwrap_err().kind, Kind::InvalidParams);
        }
        assert!(Named::call::<PeerPing>(Some(&"x".repeat(64)), &params("a")).is_ok());
    }

    #[tokio::test]
    async fn a_request_goes_on_though_its_caller_has_gone() {
        let once: Once<u8> = once();
        let (finish, finished) = tokio::sync::oneshot::channel();
        let work = async move {
            let _ = finished.await;
            Ok(7)
        };
        let first = once.run(id("a"), work);
        tokio::select! {
            biased;
            _ = first => panic!("nothing has finished it"),
            () = std::future::ready(()) => {}
        }
        finish.send(()).unwrap();
        let repeat = once.run(id("a"), async { Ok(8) }).await;
        assert_eq!(repeat.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_was_not_even_tried_is_tried_again() {
        let once: Once<u8> = once();
        let busy = async { Err(Error::new(Kind::Busy, "busy")) };
        assert!(once.run(id("a"), busy).await.is_err());
        assert_eq!(once.run(id("a"), async { Ok(8) }).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_failure_is_an_answer() {
        let once: Once<u8> = once();
        let failed = async { Err(Error::new(Kind::Timeout, "it may still happen")) };
        assert!(once.run(id("a"), failed).await.is_err());
        let repeat = once.run(id("a"), async { Ok(8) }).await;
        assert_eq!(repeat.unwrap_err().kind, Kind::Timeout);
    }

    #[tokio::test]
    async fn requests_are_bounded_and_the_oldest_is_forgotten_first() {
        let (once, count) = (once(), Arc::default());
        for number in 0..=REQUESTS_MAX {
            let answer = once.run(id(&number.to_string()), counting(&count));
            assert_eq!(answer.await.unwrap(), number);
        }
        assert_eq!(once.requests().by_id.len(), REQUESTS_MAX);
        assert_eq!(once.requests().answers_bytes, REQUESTS_MAX);
        let again = |number: &str| once.run(id(number), counting(&count));
        assert_eq!(again("1").await.unwrap(), 1);
        assert_eq!(again("0").await.unwrap(), REQUESTS_MAX + 1);
    }

    #[tokio::test]
    async fn answers_are_bounded_by_what_they_take() {
        let once: Once<usize> = Once::new(|bytes| *bytes);
        let third = ANSWERS_BYTES_MAX / 3;
        for name in ["a", "b", "c", "d"] {
            let answer = once.run(id(name), async move { Ok(third) }).await;
            assert_eq!(answer.unwrap(), third);
        }
        assert!(once.requests().answers_bytes <= ANSWERS_BYTES_MAX);
        assert_eq!(once.run(id("b"), async { Ok(0) }).await.unwrap(), third);
        assert_eq!(once.run(id("a"), async { Ok(0) }).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_under_way_is_not_forgotten() {
        let once: Once<u8> = once();
        let (finish, finished) = tokio::sync::watch::channel(false);
        let work = || {
            let mut finished = finished.clone();
            async move {
                let _ = finished.wait_for(|finished| *finished).await;
                Ok(7)
            }
        };
        let answers: Vec<_> = (0..REQUESTS_MAX)
            .map(|number| {
                let named = id(&number.to_string()).unwrap();
                once.begin(named, work()).unwrap()
            })
            .collect();
        let one_more = once.run(id("more"), async { Ok(8) }).await;
        assert_eq!(one_more.unwrap_err().kind, Kind::Busy);
        finish.send(true).unwrap();
        for mut answer in answers {
            assert!(answer.wait_for(Option::is_some).await.is_ok());
        }
        assert_eq!(once.run(id("more"), async { Ok(8) }).await.unwrap(), 8);
        assert_eq!(once.run(id("1"), async { Ok(8) }).await.unwrap(), 7);
    }
}
