//! Raft's watch channels: tokio's, but who waits is woken in the order of waiting. Tokio wakes them in an order that no seed
//! decides.

use std::sync::Arc;

use openraft::async_runtime::watch;
use openraft::{OptionalSend, OptionalSync};
use tokio::sync::{Notify, watch as tokio_watch};

/// See above.
pub(crate) struct OrderedWatch;

/// Rung when something changed, and when a sender is gone.
#[derive(Clone)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

pub(crate) struct Sender<T> {
    // Dropped before the bell, so that who is woken sees it gone.
    inner: tokio_watch::Sender<T>,
    bell: Bell,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { inner: self.inner.clone(), bell: self.bell.clone() }
    }
}

pub(crate) struct Receiver<T> {
    inner: tokio_watch::Receiver<T>,
    bell: Arc<Notify>,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { inner: self.inner.clone(), bell: self.bell.clone() }
    }
}

impl watch::Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = tokio_watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (inner, receiver) = tokio_watch::channel(init);
        let bell = Arc::new(Notify::new());
        (Sender { inner, bell: Bell(bell.clone()) }, Receiver { inner: receiver, bell })
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), watch::SendError<T>> {
        let sent = self.inner.send(value).map_err(|error| watch::SendError(error.0));
        self.bell.0.notify_waiters();
        sent
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = self.inner.send_if_modified(modify);
        if modified {
            self.bell.0.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.inner.subscribe(), bell: self.bell.0.clone() }
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), watch::RecvError> {
        loop {
            let bell = self.bell.clone();
            let mut rung = std::pin::pin!(bell.notified());
            rung.as_mut().enable();
            match self.inner.has_changed() {
                Ok(true) => {
                    self.inner.mark_unchanged();
                    return Ok(());
                }
                Ok(false) => rung.await,
                Err(_) => return Err(watch::RecvError(())),
            }
        }
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn borrow_and_update(&mut self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }
}
