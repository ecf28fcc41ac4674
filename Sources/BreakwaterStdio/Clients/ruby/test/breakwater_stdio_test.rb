# frozen_string_literal: true

# Tests of the library, each with a real process: ruby -Ilib test/breakwater_stdio_test.rb

require "json"
require "minitest/autorun"
require "open3"
require "rbconfig"
require "timeout"

class BreakwaterStdioTest < Minitest::Test
  LIBRARY = File.expand_path("../lib", __dir__)

  # A handler's process, and a worker's side of the protocol.
  class Handler
    attr_reader :hello

    def initialize(body, jobs: 4, heartbeat: 10, max_line: 1 << 20, arguments: "", before: "")
      script = "require 'breakwater_stdio'; include BreakwaterStdio; #{before}; " \
               "BreakwaterStdio.serve(#{arguments}) { |job| #{body} }"
      @input, @output, @errors, @thread = Open3.popen3(RbConfig.ruby, "-I#{LIBRARY}", "-e", script)
      send_messages({ type: "hello", protocol: 1, jobs: jobs, heartbeat: heartbeat, max_line: max_line })
      @hello = read
    end

    def write(line) = @input.write(line)

    def send_messages(*messages)
      @input.write(messages.map { |message| "#{JSON.generate(message)}\n" }.join)
    end

    def message(run, payload)
      { type: "run", run: run, id: "9223372036854775807", kind: "k", queue: "q", attempt: 2, max_attempts: 9,
        deadline: "2026-01-31T00:00:00.000Z", idempotency_key: "breakwater-1", traceparent: "00-ab-cd-01",
        payload: payload, x_later: [1] }
    end

    def run(*payloads)
      send_messages(*payloads.each_with_index.map { |payload, index| message(index + 1, payload) })
    end

    def read
      line = @output.gets
      line && JSON.parse(line, max_nesting: false)
    end

    def stop
      Process.kill("KILL", @thread.pid) if @thread.alive?
    rescue Errno::ESRCH
      nil
    end

    def stop_reading = @output.close

    # The rest of the output, the errors and the exit status.
    def finish
      @input.close
      [@output.closed? ? "" : @output.read, @errors.read, @thread.value.exitstatus]
    end
  end

  def with_handler(body, **options)
    handler = Handler.new(body, **options)
    # A process that does not answer must not hold the tests up.
    Timeout.timeout(60) { yield handler }
  ensure
    handler&.stop
  end

  def answer(body, payload = nil, **options)
    with_handler(body, **options) do |handler|
      handler.run(payload)
      return handler.read
    end
  end

  def test_hello
    with_handler("nil", arguments: "jobs: 9") do |handler|
      assert_equal ["hello", 1, 4, %w[cancel heartbeat]], handler.hello.values_at("type", "protocol", "jobs", "can")
    end
  end

  def test_results
    assert_equal({ "type" => "result", "run" => 1, "outcome" => "succeeded" }, answer("nil"))
    assert_equal({ "é" => [nil, "😀"] }, answer("job.payload", { "é" => [nil, "😀"] })["result"])
  end

  def test_job
    body = "[job.id, job.kind, job.queue, job.attempt, job.max_attempts, job.idempotency_key, job.traceparent, " \
           "job.tracestate, job.deadline.to_i, job.last_checkpoint]"
    expected = [(1 << 63) - 1, "k", "q", 2, 9, "breakwater-1", "00-ab-cd-01", nil, 1_769_817_600, nil]
    assert_equal expected, answer(body)["result"]
  end

  def test_outcomes
    error = { "name" => "a.b", "message" => "c" }
    {
      "Fail.new('a.b', 'c')" => { "outcome" => "failed", "error" => error },
      "Discard.new('a.b', 'c')" => { "outcome" => "discarded", "error" => error },
      "Unable.new('a.b', 'c')" => { "outcome" => "unable", "error" => error },
      "Unavailable.new('a.b', 'c')" => { "outcome" => "unavailable", "error" => error },
      "Unavailable.new('a.b', 'c', retry_after: 3)" =>
        { "outcome" => "unavailable", "error" => error, "retry_after" => 3 },
      "Throttle.new('a.b', 'c', retry_after: 0.5)" =>
        { "outcome" => "throttled", "error" => error, "retry_after" => 0.5 },
      "Snooze.new(60)" => { "outcome" => "snoozed", "retry_after" => 60 },
      "Release.new" => { "outcome" => "released" },
      "Discard.new" => { "outcome" => "discarded", "error" => { "name" => "Discard", "message" => "" } },
      "KeyError.new('to')" => { "outcome" => "failed", "error" => { "name" => "KeyError", "message" => "to" } },
      "NotImplementedError.new('x')" =>
        { "outcome" => "failed", "error" => { "name" => "NotImplementedError", "message" => "x" } }
    }.each do |raised, members|
      assert_equal({ "type" => "result", "run" => 1 }.merge(members), answer("raise #{raised}"), raised)
    end
  end

  def deep(levels) = "#{levels}.times.inject(1) { |inner| [inner] }"

  # What the worker would refuse is a failure, and other jobs go on.
  def test_refused_results
    {
      "Float::NAN" => "JSON::GeneratorError",
      "[Float::INFINITY]" => "JSON::GeneratorError",
      "\"\\xff\"" => "JSON::GeneratorError",
      "cycle = []; cycle << cycle; cycle" => "JSON::NestingError",
      deep(511) => "JSON::NestingError",
      deep(50_000) => "JSON::NestingError",
      "'x' * 3000" => "result.tooLong",
      "'é' * 1100" => "result.tooLong",
      "job.checkpoint('x' * 3000)" => "checkpoint.tooLong",
      "raise Snooze.new(Float::NAN)" => "ArgumentError",
      "raise Unavailable.new('a.b', 'c', retry_after: Float::NAN)" => "ArgumentError",
      "raise Throttle.new('a.b', 'c', retry_after: Float::INFINITY)" => "ArgumentError",
      "raise Throttle.new('a.b', 'c', retry_after: [])" => "TypeError"
    }.each do |body, name|
      with_handler("next 1 if job.payload; #{body}", max_line: 2048) do |handler|
        handler.run(false, true)
        refused = handler.read
        assert_equal ["failed", name], [refused["outcome"], refused["error"]["name"]], body
        assert_equal "succeeded", handler.read["outcome"], body
      end
    end
    error = answer("'x' * 3000", max_line: 2048)["error"]
    assert_equal "the line of the result has 3059 bytes of at most 2048", error["message"]
  end

  def test_accepted_results
    assert_equal 1989, answer("'x' * 1989", max_line: 2048)["result"].length
    assert_equal "succeeded", answer(deep(510))["outcome"]
    assert_equal 600, answer("[[]] * 600")["result"].length
  end

  def test_a_result_is_encoded_once
    body = "result = Object.new; def result.to_json(*) = (@count = @count.to_i + 1).to_s; result"
    assert_equal 1, answer(body)["result"]
  end

  def test_long_messages_and_notes_are_cut
    [1024, 1 << 20].each do |max_line|
      raised = answer("raise Discard.new('a.b', 1.chr * 9000)", max_line: max_line)
      assert_equal ["discarded", "a.b"], [raised["outcome"], raised["error"]["name"]]
      assert_equal [8192, max_line / 20].min, raised["error"]["message"].length
      progress = answer("job.progress(0.0 / 0, 1.chr * 9000); nil", max_line: max_line)
      assert_equal [0.0, [1000, max_line / 20].min], [progress["fraction"], progress["note"].length]
    end
  end

  def test_name_is_cut_between_characters
    assert_equal "é" * 100, answer("raise Fail.new('é' * 150)")["error"]["name"]
  end

  def test_waiting_times_that_are_too_short
    assert_equal 0, answer("raise Unavailable.new('a.b', 'c', retry_after: -1)")["retry_after"]
    [0, -1, 1e-30].each { |seconds| assert_equal 1e-6, answer("raise Snooze.new(#{seconds})")["retry_after"] }
  end

  def test_deep_payloads
    with_handler("next job.payload unless job.payload.is_a?(Array); job.payload.flatten") do |handler|
      [1500, 100_000].each_with_index do |depth, index|
        line = JSON.generate(handler.message(index + 1, "PAYLOAD"))
        handler.write("#{line.sub('"PAYLOAD"', "#{'[' * depth}#{']' * depth}")}\n")
      end
      handler.write("{\"type\":\"x-later\",\"x\":#{'[' * 100_000}#{']' * 100_000}}\n")
      handler.send_messages(handler.message(3, 1))
      answers = Array.new(3) { handler.read }.sort_by { |answer| answer["run"] }
      assert_equal [[], 1], answers.values_at(0, 2).map { |answer| answer["result"] }
      assert_equal ["failed", "payload.unreadable"], [answers[1]["outcome"], answers[1]["error"]["name"]]
      assert_includes answers[1]["error"]["message"], "Ruby cannot decode the payload: "
      _, errors, status = handler.finish
      assert_equal 0, status
      assert_includes errors, "Ruby cannot decode a message: "
    end
  end

  def test_result_that_cannot_be_written
    before = "BreakwaterStdio::Server.prepend(Module.new { def write(line) = " \
             "line.include?('result') ? (warn('writes a result'); raise(IOError, 'full')) : super })"
    with_handler("1", before: before) do |handler|
      handler.run(nil)
      # The block has not failed, so there is no second result.
      assert_equal 1, handler.finish[1].scan("writes a result").length
    end
  end

  def test_worker_that_has_ended
    with_handler("1") do |handler|
      handler.stop_reading
      handler.run(nil)
      _, errors, status = handler.finish
      assert_equal ["", 0], [errors, status]
    end
  end

  def test_heartbeats_after_a_drain
    with_handler("sleep 0.5; nil", heartbeat: 0.1) do |handler|
      handler.run(nil)
      handler.send_messages({ type: "drain" })
      types = [handler.read["type"]]
      types << handler.read["type"] while types.last != "result"
      assert_operator types.length, :>=, 3
    end
  end

  def test_output_goes_to_standard_error
    with_handler("puts 'printed'; system('echo by a program'); $stdin.read") do |handler|
      handler.run(nil)
      assert_equal "", handler.read["result"]
      output, errors, status = handler.finish
      assert_equal ["", 0], [output, status]
      assert_includes errors, "printed"
      assert_includes errors, "by a program"
    end
  end

  def test_reports
    with_handler("job.progress(0.5, 'half'); job.progress(0.6); job.checkpoint({ n: 1 }); nil") do |handler|
      handler.run(nil)
      assert_equal({ "type" => "progress", "run" => 1, "fraction" => 0.5, "note" => "half" }, handler.read)
      # The second report came too soon after the first.
      assert_equal({ "type" => "checkpoint", "run" => 1, "checkpoint" => { "n" => 1 } }, handler.read)
      assert_equal "result", handler.read["type"]
    end
  end

  def test_several_at_once_and_no_more
    with_handler("sleep job.payload; nil", jobs: 2, arguments: "jobs: 2") do |handler|
      handler.run(0.4, 0.2, 0.01)
      assert_equal [2, 3, 1], Array.new(3) { handler.read["run"] }
    end
  end

  def test_cancelled_runs
    with_handler("sleep 60") do |handler|
      handler.run(nil, nil)
      handler.send_messages({ type: "cancel", run: 2 })
      sleep 0.2
      handler.send_messages({ type: "cancel", run: 1 })
      assert_equal [[1, "released"], [2, "released"]], Array.new(2) { handler.read.values_at("run", "outcome") }
      # It comes too late, and is ignored.
      handler.send_messages({ type: "cancel", run: 1 }, { type: "x-later" })
      assert_equal 0, handler.finish[2]
    end
  end

  def test_heartbeats
    with_handler("sleep 0.5; nil", heartbeat: 0.1) do |handler|
      handler.run(nil)
      types = [handler.read["type"]]
      types << handler.read["type"] while types.last != "result"
      assert_operator types.length, :>=, 3
      assert_equal ["heartbeat"], types[0...-1].uniq
    end
  end

  def test_drain_finishes_what_is_there
    with_handler("job.payload") do |handler|
      handler.run(*1..50)
      handler.send_messages({ type: "drain" })
      assert_equal (1..50).to_a, Array.new(50) { handler.read["result"] }
      assert_equal ["", 0], handler.finish.values_at(0, 2)
    end
  end

  def test_another_version_is_refused
    script = "require 'breakwater_stdio'; BreakwaterStdio.serve { nil }"
    output, errors, status = Open3.capture3(RbConfig.ruby, "-I#{LIBRARY}", "-e", script,
                                            stdin_data: "{\"type\":\"hello\",\"protocol\":2}\n")
    assert_equal ["", 1], [output, status.exitstatus]
    assert_includes errors, "not version 1"
  end
end
