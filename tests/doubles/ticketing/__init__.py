"""The sample ticketing API: a NestJS backend in any of its forms."""
