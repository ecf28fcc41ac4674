# frozen_string_literal: true

require "json"
require "time"

# Handlers for Breakwater's `stdio` plugin, in Ruby.
#
#     require "breakwater_stdio"
#
#     BreakwaterStdio.serve do |job|
#       raise BreakwaterStdio::Discard.new("mail.noRecipient", "the payload has no 'to'") unless job.payload["to"]
#       send_mail(job.payload["to"])
#       { sent: true }
#     end
#
# What the block returns is the job's result, which must be JSON; nil is no result. An Outcome that it raises is the
# outcome of the run. Any other error is a failure under the name of its class, and its backtrace goes to standard
# error.
#
# Standard output belongs to the protocol, so `serve` redirects it: what a block prints goes to standard error, which
# the worker logs. Standard input is empty for the block.
module BreakwaterStdio
  PROTOCOL = 1
  VERSION = "1.0.0"
  # A job's progress is written at most this often.
  PROGRESS_SECONDS = 0.1
  # The worker keeps no more characters of a note, and of a failure's message.
  NOTE_CHARACTERS = 1000
  MESSAGE_CHARACTERS = 8192
  # The worker refuses a message that has a value at depth 512. The message itself is at depth 0.
  MAX_NESTING = 511
  # Deeper payloads could exceed the stack.
  MAX_PAYLOAD_NESTING = 10_000
  # The shortest snooze, in seconds. The worker's database rounds shorter ones to 0.
  SHORTEST_SNOOZE = 1e-6

  # The outcome of a run, for a block to raise. Use one of the classes below.
  class Outcome < StandardError
    attr_reader :name, :retry_after

    # name: a short, stable name that retry rules can match. message: what happened, for people.
    def initialize(name = nil, message = "")
      super(message)
      @name = name || self.class.name.split("::").last
    end

    # The members of the result.
    def members
      { outcome: outcome, error: BreakwaterStdio.failure(name, message) }
    end
  end

  # The run failed. The job is retried with backoff.
  class Fail < Outcome
    def outcome = "failed"
  end

  # The job can never succeed. It becomes a dead letter at once.
  class Discard < Outcome
    def outcome = "discarded"
  end

  # This worker lacks something that the job needs, whatever the job is. No attempt is spent.
  class Unable < Outcome
    def outcome = "unable"
  end

  # An outcome that may say when the job runs again, in seconds.
  class DelayedOutcome < Outcome
    def initialize(name = nil, message = "", retry_after: nil)
      super(name, message)
      @retry_after = retry_after
    end

    def members
      retry_after ? super.merge(retry_after: BreakwaterStdio.seconds(retry_after, 0)) : super
    end
  end

  # What the job depends on is down. The job is retried with backoff, or after `retry_after` seconds if longer.
  class Unavailable < DelayedOutcome
    def outcome = "unavailable"
  end

  # What the job depends on limits the rate. The job runs again after `retry_after` seconds. No attempt is spent.
  class Throttle < DelayedOutcome
    def outcome = "throttled"
  end

  # The job is to run again after this many seconds. No attempt is spent.
  class Snooze < Outcome
    def initialize(seconds)
      super("Snooze", "for #{seconds} seconds")
      @retry_after = seconds
    end

    def members
      { outcome: "snoozed", retry_after: BreakwaterStdio.seconds(retry_after, SHORTEST_SNOOZE) }
    end
  end

  # The run did not happen. The job runs again at once. No attempt is spent.
  class Release < Outcome
    def members
      { outcome: "released" }
    end
  end

  # Raised in the thread of a run that is cancelled: its time is over, or the worker stops. It is no StandardError, so
  # that a plain `rescue` does not hide it.
  class Cancelled < Exception # rubocop:disable Lint/InheritException
  end

  # The job of one run.
  class Job
    def initialize(message, server)
      @message = message
      @server = server
      @next_progress = 0.0
    end

    # The payload, decoded from JSON.
    def payload = @message["payload"]
    # The job's number.
    def id = Integer(@message["id"], 10)
    def kind = @message["kind"]
    def queue = @message["queue"]
    # The number of this counted run, from 1 on.
    def attempt = @message["attempt"]
    def max_attempts = @message["max_attempts"]
    # When the run is cancelled.
    def deadline = Time.iso8601(@message["deadline"])
    # A text that is the same for every run of this job.
    def idempotency_key = @message["idempotency_key"]
    # The W3C trace context of the run; nil if there is none.
    def traceparent = @message["traceparent"]
    def tracestate = @message["tracestate"]
    # The checkpoint that an earlier attempt reported; nil if there is none.
    def last_checkpoint = @message["checkpoint"]

    # Reports how much is done, from 0 to 1, and what is being done. More than ten a second are skipped.
    def progress(fraction = nil, note = nil)
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      return if now < @next_progress && fraction != 1

      @next_progress = now + PROGRESS_SECONDS
      message = { type: "progress", run: @message["run"] }
      # A block gets NaN if it divides 0.0 by 0.
      message[:fraction] = fraction.to_f.nan? ? 0.0 : fraction.clamp(0.0, 1.0) if fraction
      message[:note] = @server.cut(note, NOTE_CHARACTERS) if note
      @server.send_message(message)
    end

    # Reports a state, which must be JSON, from which a later attempt can go on.
    def checkpoint(state)
      @server.send_message({ type: "checkpoint", run: @message["run"], checkpoint: state })
    end
  end

  # Runs jobs on threads of its own while the calling thread reads.
  class Server
    def initialize(jobs, handler)
      @limit = jobs
      @max_line = Float::INFINITY
      @handler = handler
      @input = $stdin.dup
      @output = $stdout.dup
      $stdin.reopen(File::NULL)
      $stdout.reopen($stderr)
      [@input, @output].each(&:binmode)
      @output.sync = true
      @waiting = Queue.new
      @lock = Mutex.new
      @writing = Mutex.new
      # The threads of the running jobs, and the runs that were cancelled before they began.
      @running = {}
      @cancelled = {}
    end

    def serve
      line = @input.gets or return
      greet(decode(line))
      threads = Array.new(@jobs) { Thread.new { work } }
      beats = Thread.new { beat }
      while (line = @input.gets)
        message = decode(line) or next
        case message["type"]
        when "run"
          @lock.synchronize { @cancelled[message["run"]] = false }
          @waiting << message
        when "cancel" then cancel(message["run"])
        when "drain" then break
        end
      end
      @waiting.close
      threads.each(&:join)
      beats.kill
    end

    # Writes a message now.
    def send_message(message) = write(line(message))

    # The beginning of a text. A character takes at most 6 bytes, so the rest of the line has room.
    def cut(text, characters) = BreakwaterStdio.text(text)[0, [characters, @max_line / 20].min]

    private

    def greet(hello)
      unless hello["type"] == "hello" && hello["protocol"] == PROTOCOL
        abort "this is not version #{PROTOCOL} of Breakwater's stdio protocol"
      end
      @jobs = [@limit || 1, hello["jobs"] || 1].min
      @heartbeat = [hello["heartbeat"] || 10, 0.05].max
      @max_line = hello["max_line"] || Float::INFINITY
      send_message({ type: "hello", protocol: PROTOCOL, jobs: @jobs, can: %w[cancel heartbeat],
                     library: "ruby #{VERSION}" })
    end

    # The message of a line. A run whose payload cannot be decoded is answered here.
    def decode(line)
      JSON.parse(line, max_nesting: MAX_PAYLOAD_NESTING)
    rescue JSON::NestingError, SystemStackError => e
      if (run = line[/\A{"type":"run","run":(\d+)/, 1])
        failure = Fail.new("payload.unreadable", "Ruby cannot decode the payload: #{e.message}")
        write(result(Integer(run, 10), error: failure))
      else
        warn "Ruby cannot decode a message: #{e.message}: #{line[0, 200]}"
      end
      nil
    end

    # The line of a message. Raises if the worker would refuse it.
    def line(message)
      line = JSON.generate(message, max_nesting: MAX_NESTING)
      return line if line.bytesize <= @max_line

      type = message[:type]
      raise Fail.new("#{type}.tooLong", "the line of the #{type} has #{line.bytesize} bytes of at most #{@max_line}")
    end

    # The line with the outcome of a run: the value that its block returned, or the error that it raised.
    def result(run, value: nil, error: nil)
      members = error ? failed(error) : { outcome: "succeeded", result: value }.compact
      members[:error][:message] = cut(members[:error][:message], MESSAGE_CHARACTERS) if members[:error]
      line({ type: "result", run: run, **members })
    rescue StandardError => e
      result(run, error: e)
    end

    # The members of the result of a run whose block has raised this.
    def failed(error)
      case error
      when Outcome then error.members
      when Cancelled then Release.new.members
      else
        warn error.full_message(highlight: false)
        { outcome: "failed", error: BreakwaterStdio.failure(error.class.name, error.message) }
      end
    end

    def write(line)
      # Only a whole line may be written, so a cancellation waits until then.
      Thread.handle_interrupt(Cancelled => :never) { @writing.synchronize { @output.write("#{line}\n") } }
    rescue Errno::EPIPE
      # The worker has ended, and so does this process: its input has ended too.
    end

    def beat
      loop do
        sleep @heartbeat
        send_message({ type: "heartbeat" }) if @lock.synchronize { !@running.empty? }
      end
    end

    def work
      Thread.handle_interrupt(Cancelled => :never) do
        while (message = @waiting.pop)
          write(run(message))
        end
      end
    end

    # Runs the job, and returns the line with its outcome.
    def run(message)
      run = message["run"]
      was_cancelled = @lock.synchronize do
        @running[run] = Thread.current unless @cancelled[run]
        @cancelled.delete(run)
      end
      return result(run, error: Release.new) if was_cancelled

      begin
        value = Thread.handle_interrupt(Cancelled => :immediate) { @handler.call(Job.new(message, self)) }
        result(run, value: value)
      rescue Exception => e # rubocop:disable Lint/RescueException
        # Whatever it is, the run must be answered, and the thread must go on.
        result(run, error: e)
      ensure
        @lock.synchronize { @running.delete(run) }
        # A cancellation that came too late must not hit the next run.
        begin
          Thread.handle_interrupt(Cancelled => :immediate) { Thread.pass } if Thread.pending_interrupt?
        rescue Cancelled
          nil
        end
      end
    end

    def cancel(run)
      @lock.synchronize do
        if (thread = @running[run])
          thread.raise(Cancelled)
        elsif @cancelled.key?(run)
          @cancelled[run] = true
        end
      end
    end
  end

  def self.seconds(value, least)
    seconds = Float(value)
    raise ArgumentError, "the job cannot run again after #{seconds} seconds" unless seconds.finite?

    [least, seconds].max
  end

  def self.text(value) = value.to_s.dup.force_encoding(Encoding::UTF_8).scrub

  def self.failure(name, message)
    # A name may have 200 bytes.
    name = text(name)[0, 200]
    name = name[0...-1] while name.bytesize > 200
    { name: name.empty? ? "Error" : name, message: text(message) }
  end

  # Runs jobs with a block until the worker ends the process.
  #
  # jobs: the most jobs that run at once, each on a thread of its own; fewer if the worker is configured for fewer.
  def self.serve(jobs: 1, &handler)
    Server.new(jobs, handler).serve
  end
end
