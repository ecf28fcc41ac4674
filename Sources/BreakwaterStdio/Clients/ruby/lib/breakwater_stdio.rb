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
# outcome of the run. Any other error is a failure under the name of its class, and its backtrace goes to standard error.
#
# Standard output belongs to the protocol, so `serve` redirects it: what a block prints goes to standard error, which the
# worker logs. Standard input is empty for the block.
module BreakwaterStdio
  PROTOCOL = 1
  VERSION = "1.0.0"
  # A job's progress is written at most this often.
  PROGRESS_SECONDS = 0.1

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
      retry_after ? super.merge(retry_after: retry_after) : super
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
      { outcome: "snoozed", retry_after: retry_after }
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
      message[:fraction] = fraction.clamp(0.0, 1.0) if fraction
      message[:note] = note.to_s if note
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
      greet(BreakwaterStdio.decode(line))
      threads = Array.new(@jobs) { Thread.new { work } }
      beats = Thread.new { beat }
      while (line = @input.gets)
        message = BreakwaterStdio.decode(line)
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
    def send_message(message)
      line = "#{BreakwaterStdio.encode(message)}\n"
      # Only a whole line may be written, so a cancellation waits until then.
      Thread.handle_interrupt(Cancelled => :never) { @writing.synchronize { @output.write(line) } }
    rescue Errno::EPIPE
      # The worker has ended, and so does this process: its input has ended too.
    end

    private

    def greet(hello)
      unless hello["type"] == "hello" && hello["protocol"] == PROTOCOL
        abort "this is not version #{PROTOCOL} of Breakwater's stdio protocol"
      end
      @jobs = [@limit || 1, hello["jobs"] || 1].min
      @heartbeat = [hello["heartbeat"] || 10, 0.05].max
      send_message({ type: "hello", protocol: PROTOCOL, jobs: @jobs, can: %w[cancel heartbeat],
                     library: "ruby #{VERSION}" })
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
          members = run(message)
          send_message({ type: "result", run: message["run"] }.merge(members))
        end
      end
    end

    def run(message)
      run = message["run"]
      was_cancelled = @lock.synchronize do
        @running[run] = Thread.current unless @cancelled[run]
        @cancelled.delete(run)
      end
      return { outcome: "released" } if was_cancelled

      begin
        value = Thread.handle_interrupt(Cancelled => :immediate) { @handler.call(Job.new(message, self)) }
        members = { outcome: "succeeded" }
        unless value.nil?
          BreakwaterStdio.encode(value)
          members[:result] = value
        end
        members
      rescue Outcome => e
        e.members
      rescue Cancelled
        { outcome: "released" }
      rescue Exception => e # rubocop:disable Lint/RescueException
        # Whatever it is, the run must be answered, and the thread must go on.
        warn e.full_message(highlight: false)
        { outcome: "failed", error: BreakwaterStdio.failure(e.class.name, e.message) }
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

  # JSON of any depth.
  def self.decode(line) = JSON.parse(line, max_nesting: false)
  def self.encode(value) = JSON.generate(value, max_nesting: 0)

  def self.failure(name, message)
    text = name.to_s.dup.force_encoding(Encoding::UTF_8).scrub
    text = text[0...-1] while text.bytesize > 200
    { name: text.empty? ? "Error" : text, message: message.to_s.dup.force_encoding(Encoding::UTF_8).scrub }
  end

  # Runs jobs with a block until the worker ends the process.
  #
  # jobs: the most jobs that run at once, each on a thread of its own; fewer if the worker is configured for fewer.
  def self.serve(jobs: 1, &handler)
    Server.new(jobs, handler).serve
  end
end
