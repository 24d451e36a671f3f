//! Threads that await futures.

use real_std::task::Wake;

use crate::pin::pin;
use crate::sync::Arc;
use crate::task::{Context, Poll, Waker};

/// Wakes the thread that awaits something.
///
/// Its clones are counted by the real `Arc`: pieces clone wakers under locks of tokio's, which loom does not see and which
/// no other thread must meet.
struct Alarm(loom::sync::Notify);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify();
    }
}

/// Awaits it on this thread. If nobody wakes it any more, that is a deadlock, which loom reports.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let alarm = Arc::new(Alarm(loom::sync::Notify::new()));
    let waker = Waker::from(Arc::clone(&alarm));
    let (mut cx, mut future) = (Context::from_waker(&waker), pin!(future));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
        alarm.0.wait();
    }
}
