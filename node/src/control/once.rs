//! Requests that a client may repeat: the first is carried out, the others get its answer.
//!
//! A request goes on though its caller has gone, so that a repeat finds what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use weft_rpc::{Error, Kind};

/// Requests that are remembered. A guess: some minutes of a busy client; each takes at most a kilobyte.
const REQUESTS_MAX: usize = 4_096;
/// Bytes of a client's name for a request.
const ID_BYTES_MAX: usize = 64;

type Outcome<T> = Result<T, Error>;

/// A request under way or answered.
#[derive(Debug)]
struct Request<T> {
    /// What was asked for: another request may not have the same name.
    asked: String,
    answer: watch::Receiver<Option<Outcome<T>>>,
}

/// What was asked for lately, and its answers.
#[derive(Debug)]
struct Requests<T> {
    by_id: BTreeMap<String, Request<T>>,
    /// The oldest first.
    order: VecDeque<String>,
}

/// Requests by their clients' names, each carried out once. Clones share them.
#[derive(Debug)]
pub(super) struct Once<T>(Arc<Mutex<Requests<T>>>);

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Requests {
            by_id: BTreeMap::new(),
            order: VecDeque::new(),
        })))
    }
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// Carries out a request, or waits for the answer of the one before it that had the same name; without a name it is
    /// carried out in any case. `asked` is what it asks for.
    pub(super) async fn run(
        &self,
        id: Option<String>,
        asked: String,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let Some(id) = id else {
            return work.await;
        };
        let mut answer = self.begin(id, asked, work)?;
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    fn begin(
        &self,
        id: String,
        asked: String,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Result<watch::Receiver<Option<Outcome<T>>>, Error> {
        check(&id)?;
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        if requests.order.len() >= REQUESTS_MAX
            && let Some(oldest) = requests.order.pop_front()
        {
            requests.by_id.remove(&oldest);
        }
        let (tell, answer) = watch::channel(None);
        let request = Request {
            asked,
            answer: answer.clone(),
        };
        requests.order.push_back(id.clone());
        requests.by_id.insert(id.clone(), request);
        drop(requests);
        let once = self.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            if matches!(&outcome, Err(error) if error.kind == Kind::Busy) {
                once.forget(&id);
            }
            // Whoever asked may have gone.
            let _ = tell.send(Some(outcome));
        });
        Ok(answer)
    }

    /// Forgets a request of which nothing was done: a repeat tries again.
    fn forget(&self, id: &str) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests.by_id.remove(id);
        requests.order.retain(|other| other != id);
    }
}

fn check(id: &str) -> Result<(), Error> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) {
        return Ok(());
    }
    Err(
        Error::new(Kind::InvalidParams, "a request_id has 1 to 64 bytes")
            .hint("a random number will do"),
    )
}

/// The node's runtime is ending.
fn lost() -> Error {
    super::errors::stopping()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn id(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn counting(
        count: &Arc<AtomicUsize>,
    ) -> impl Future<Output = Outcome<usize>> + Send + 'static + use<> {
        let count = Arc::clone(count);
        async move { Ok(count.fetch_add(1, Ordering::Relaxed)) }
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer() {
        let (once, count) = (Once::default(), Arc::default());
        for _ in 0..3 {
            let answer = once.run(id("a"), "put".to_owned(), counting(&count)).await;
            assert_eq!(answer.unwrap(), 0);
        }
        let other = once.run(id("b"), "put".to_owned(), counting(&count)).await;
        assert_eq!(other.unwrap(), 1);
        for expected in 2..4 {
            let unnamed = once.run(None, "put".to_owned(), counting(&count)).await;
            assert_eq!(unnamed.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_name_belongs_to_one_request() {
        let (once, count) = (Once::default(), Arc::default());
        let first = once
            .run(id("a"), "put 1".to_owned(), counting(&count))
            .await;
        assert!(first.is_ok());
        let other = once
            .run(id("a"), "put 2".to_owned(), counting(&count))
            .await;
        assert_eq!(other.unwrap_err().kind, Kind::InvalidParams);
        for wrong in [String::new(), "x".repeat(65)] {
            let refused = once.run(Some(wrong), String::new(), counting(&count)).await;
            assert_eq!(refused.unwrap_err().kind, Kind::InvalidParams);
        }
    }

    #[tokio::test]
    async fn a_request_goes_on_though_its_caller_has_gone() {
        let once: Once<u8> = Once::default();
        let (finish, finished) = tokio::sync::oneshot::channel();
        let work = async move {
            let _ = finished.await;
            Ok(7)
        };
        let first = once.run(id("a"), String::new(), work);
        tokio::select! {
            biased;
            _ = first => panic!("nothing has finished it"),
            () = std::future::ready(()) => {}
        }
        finish.send(()).unwrap();
        let repeat = once.run(id("a"), String::new(), async { Ok(8) }).await;
        assert_eq!(repeat.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_was_not_even_tried_is_tried_again() {
        let once: Once<u8> = Once::default();
        let busy = async { Err(Error::new(Kind::Busy, "busy")) };
        assert!(once.run(id("a"), String::new(), busy).await.is_err());
        assert_eq!(
            once.run(id("a"), String::new(), async { Ok(8) })
                .await
                .unwrap(),
            8
        );
    }

    #[tokio::test]
    async fn requests_are_bounded_and_the_oldest_is_forgotten_first() {
        let (once, count) = (Once::default(), Arc::default());
        for number in 0..=REQUESTS_MAX {
            let answer = once.run(id(&number.to_string()), String::new(), counting(&count));
            assert_eq!(answer.await.unwrap(), number);
        }
        assert_eq!(once.0.lock().unwrap().by_id.len(), REQUESTS_MAX);
        let again = |number: &str| once.run(id(number), String::new(), counting(&count));
        assert_eq!(again("1").await.unwrap(), 1);
        assert_eq!(again("0").await.unwrap(), REQUESTS_MAX + 1);
    }
}
