/// A plugin whose runs suspend while they wait: none of them occupies its thread for longer than it takes to hand the job
/// over. The worker then starts the next job in the same task without giving up the thread first.
package protocol SuspendingPlugin: HandlerPlugin {}
