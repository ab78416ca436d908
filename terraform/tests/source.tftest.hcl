# Applied (to nothing), so that the state shows what the archive is made of; tests/project/test_terraform.py
# compares it with the files, and two clones with each other.

mock_provider "google" {
  source = "./tests/mocks"
}
mock_provider "archive" {}
mock_provider "time" {}

run "archive" {
  variables {
    project_id        = "veritix-test"
    region            = "europe-west3"
    nest_api_base_url = "https://api.example.com"
    nest_api_token    = "a-token-for-tests"
  }

  assert {
    condition     = alltrue([for file in data.archive_file.source.source : can(regex("^(main\\.py|requirements\\.txt|etl/[a-z0-9_/]+\\.py|etl/views/([a-z]+\\.html|static/[A-Za-z.]+))$", file.filename))])
    error_message = "The archive may hold main.py, requirements.txt, etl/**/*.py and the report page's files only."
  }
  assert {
    condition     = length(setintersection(["main.py", "requirements.txt", "etl/__init__.py"], [for file in data.archive_file.source.source : file.filename])) == 3
    error_message = "The archive must hold main.py, requirements.txt and the package."
  }
}
