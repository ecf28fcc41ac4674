/// A plugin whose runs suspend while they wait, and so never hold their thread. The worker starts the next job in the same
/// task, and need not yield first.
package protocol SuspendingPlugin: HandlerPlugin {}
