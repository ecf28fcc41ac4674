extension CircuitBreaker {
    /// Makes a call if the circuit lets it through.
    ///
    /// ```swift
    /// let rate = try await rates.call { try await fetchRate("EUR") }
    /// ```
    ///
    /// A call counts as slow when it takes as long as the policy's `slowCall`. A call that throws `CancellationError`,
    /// or throws any error in a cancelled task, is ignored, because it says nothing about the dependency.
    ///
    /// - Parameters:
    ///   - isolation: The actor on which the call runs. Defaults to the caller's, as without a breaker.
    ///   - body: The call.
    /// - Returns: The call's result.
    /// - Throws: ``CircuitOpenError`` when the call was not made; otherwise the error of the call.
    public func call<Value>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Value
    ) async throws -> Value {
        try await run(enter().get(), body)
    }

    /// Makes a call if the circuit lets it through, and otherwise calls a fallback.
    ///
    /// ```swift
    /// let rate = try await rates.call { try await fetchRate("EUR") } fallback: { _ in lastKnownRate }
    /// ```
    ///
    /// - Parameters:
    ///   - isolation: The actor on which the call runs. Defaults to the caller's, as without a breaker.
    ///   - body: The call.
    ///   - fallback: The code that runs instead of the call. It is not counted. It receives the reason.
    /// - Returns: The result of the call or of the fallback.
    /// - Throws: The error of the call or of the fallback. An error of the call itself does not run the fallback.
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
        // If another breaker refused an inner call, this says nothing about this breaker's dependency.
        if error is CancellationError || Task.isCancelled || error is CircuitOpenError { return .ignored }
        // If the judge itself throws, the caller still receives the call's own error.
        return (try? judge(error)) ?? .failed()
    }

    /// - Parameter judgement: How to count the call; nil for a success.
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
