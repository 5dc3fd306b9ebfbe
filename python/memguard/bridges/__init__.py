"""memguard's metrics in libraries that a program has for its own metrics:
prometheus_client (memguard.bridges.prometheus) and OpenTelemetry
(memguard.bridges.opentelemetry).

Nothing is imported by `import memguard`, and nothing is read before somebody asks.
"""
