extension CircuitBreaker {
    /// Makes a call if the circuit lets it through.
    ///
    /// ```swift
    /// let rate = try await rates.call { try await fetchRate("EUR") }
    /// ```
    ///
    /// A call counts as slow when it takes as long as the policy's `slowCall`. One that throws `CancellationError`, or
    /// throws anything in a cancelled task, is ignored: it says nothing about the dependency.
    ///
    /// - Parameters:
    ///   - isolation: Where the call is made: as if there were no breaker around it.
    ///   - body: The call.
    /// - Returns: What the call returns.
    /// - Throws: ``CircuitOpenError`` when the call did not take place; what the call throws.
    public func call<Value>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Value
    ) async throws -> Value {
        try await run(enter().get(), body)
    }

    /// Makes a call if the circuit lets it through, and something else if it does not.
    ///
    /// ```swift
    /// let rate = try await rates.call { try await fetchRate("EUR") } fallback: { _ in lastKnownRate }
    /// ```
    ///
    /// - Parameters:
    ///   - isolation: Where the call is made: as if there were no breaker around it.
    ///   - body: The call.
    ///   - fallback: What takes place instead, and is not counted. It is given why.
    /// - Returns: What the call or the fallback returns.
    /// - Throws: What the call or the fallback throws. An error of the call itself is not replaced by the fallback.
    public func call<Value>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Value,
        fallback: (CircuitOpenError) async throws -> Value
    ) async throws -> Value {
        switch enter() {
        case .success(let pass): try await run(pass, body)
        case .failure(let refusal): try await fallback(refusal)
        }
    }

    /// The right to make one call.
    private struct Pass {
        var call: Int64
        var generation: Int64
        var start: Duration
    }

    private func enter() -> Result<Pass, CircuitOpenError> {
        withCircuit { guarded, now in
            let admission = guarded.circuit.admit(
                1,
                running: guarded.running,
                concurrency: concurrency,
                at: now,
                using: &guarded.generator
            )
            guard admission.count > 0 else {
                return .failure(
                    CircuitOpenError(
                        circuit: name,
                        phase: guarded.circuit.state.phase,
                        retryAfter: guarded.circuit.retryAfter(at: now)
                    )
                )
            }
            guarded.calls += 1
            guarded.running += 1
            if admission.isProbe { guarded.circuit.lease(probe: guarded.calls, until: now + probeLease) }
            return .success(Pass(call: guarded.calls, generation: admission.generation, start: now))
        }
    }

    private func run<Value>(
        isolation: isolated (any Actor)? = #isolation,
        _ pass: Pass,
        _ body: () async throws -> Value
    ) async throws -> Value {
        do {
            let value = try await body()
            leave(pass, nil)
            return value
        } catch {
            leave(pass, judgement(of: error))
            throw error
        }
    }

    private func judgement(of error: any Error) -> CallJudgement {
        // What a call under another breaker did not even try says nothing about this one's dependency either.
        if error is CancellationError || Task.isCancelled || error is CircuitOpenError { return .ignored }
        // A judge that throws leaves the caller with the call's own error, which did happen.
        return (try? judge(error)) ?? .failed()
    }

    /// - Parameter judgement: nil for a call that succeeded.
    private func leave(_ pass: Pass, _ judgement: CallJudgement?) {
        withCircuit { guarded, now in
            guarded.running -= 1
            guarded.circuit.free(probe: pass.call)
            let isSlow = policy.slowCall.map { now - pass.start >= $0 } ?? false
            var calls = CircuitCalls()
            switch judgement {
            case nil:
                calls.succeeded = 1
                calls.slowSucceeded = isSlow ? 1 : 0
            case .failed(let retryAfter):
                calls.failed = 1
                calls.slowFailed = isSlow ? 1 : 0
                calls.retryAfter = policy.honoursRetryAfter ? retryAfter : nil
            case .trips(let retryAfter):
                calls.failed = 1
                calls.slowFailed = isSlow ? 1 : 0
                calls.trip = "a call"
                calls.retryAfter = policy.honoursRetryAfter ? retryAfter : nil
            case .ignored:
                return
            }
            guarded.circuit.record(calls, of: pass.generation, at: now, using: &guarded.generator)
        }
    }
}
