package doctor

import (
	"net/url"
	"strings"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
)

// streamTarget is the stream, and the endpoint under which the extension addresses it.
type streamTarget struct {
	kinesis.Stream          // with its region, account and partition, as far as they are known
	foreign        bool     // in another account than the writer's
	url            *url.URL // of the endpoint
}

// checkSettings reads the settings as the extension does. It returns false if they name no valid stream.
func (e *examiner) checkSettings() bool {
	settings, mistakes := config.Load(e.environ)
	e.settings = settings
	e.report.Stream = settings.AWS.Stream
	for _, m := range mistakes {
		e.add(settingsCheck, Problem, m.Variable+" "+m.Problem+"; "+e.consequence(), m.Expected)
	}
	for _, m := range settings.Warnings {
		e.add(settingsCheck, Warning, m.Variable+" "+m.Problem, m.Expected)
	}
	if !settings.Enabled {
		e.add(settingsCheck, Warning, config.Prefix+"ENABLED is false: nothing is delivered", "remove it, or set it to true")
	}
	if len(mistakes) == 0 && settings.Enabled {
		e.ok(settingsCheck, "stream %s, delivery %s, events %s", settings.AWS.Stream, settings.Delivery, words(settings.Events))
	}
	where, err := resolveTarget(&settings, e.writer())
	if err != nil {
		if len(mistakes) == 0 { // otherwise a mistake above reports it
			e.add(settingsCheck, Problem, err.Error(), "correct "+config.Prefix+"STREAM")
		}
		return false
	}
	e.stream = where
	e.report.Region = where.Region
	return true
}

func words[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, word := range list {
		texts[i] = string(word)
	}
	return strings.Join(texts, ",")
}

// consequence reports what the extension does with a mistake in the settings.
func (e *examiner) consequence() string {
	if e.settings.OnError == config.OnErrorFail {
		return "the function's init fails"
	}
	return "the extension stays idle"
}

// writer returns the account whose credentials the extension writes with.
func (e *examiner) writer() string {
	if role := e.settings.AWS.RoleARN; role != "" {
		return kinesis.RoleAccount(role)
	}
	if e.function != nil {
		return e.function.account
	}
	return e.account
}

// resolveTarget finds the endpoint with the extension's own client, without I/O.
func resolveTarget(c *config.Config, account string) (streamTarget, error) {
	client, err := kinesis.New(kinesis.Config{
		Stream: c.AWS.Stream, Region: c.AWS.Region, AccountID: account, EndpointURL: c.AWS.EndpointURL,
		UseFIPS: c.AWS.FIPS, UseDualStack: c.AWS.DualStack, Credentials: kinesis.Credentials{},
	})
	if err != nil {
		return streamTarget{}, err
	}
	u, err := url.Parse(client.Endpoint())
	if err != nil {
		return streamTarget{}, err
	}
	s, err := kinesis.ParseStream(c.AWS.Stream)
	if err != nil {
		return streamTarget{}, err
	}
	where := streamTarget{Stream: s, url: u, foreign: s.AccountID != "" && s.AccountID != account}
	if s.AccountID == "" {
		where.Region, where.AccountID, where.Partition = c.AWS.Region, account, kinesis.Partition(c.AWS.Region)
	}
	return where, nil
}

// arn returns the stream's ARN for a policy, with * for an unknown account.
func (p *streamTarget) arn() string {
	s := p.Stream
	if s.AccountID == "" {
		s.AccountID = "*"
	}
	return s.ARN()
}
